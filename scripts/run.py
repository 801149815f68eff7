"""Run one arm, or with -m a sweep: python scripts/run.py method=cw_po data=harmless objective=dpo seed=0"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.commands.run import run, run_job


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@job
def main(cfg: DictConfig) -> float | None:
    return run_job(cfg)


if __name__ == "__main__":
    entry(lambda: run(main))()
