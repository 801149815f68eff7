"""One arm, or with -m a sweep: python scripts/run.py method=cw_po data=harmless objective=dpo seed=0"""

import sys

import hydra
from omegaconf import DictConfig

from cwpo import cli, runner


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
@cli.job
def main(cfg: DictConfig) -> None:
    runner.run_job(cfg, sys.argv[1:])


if __name__ == "__main__":
    cli.entry(lambda: runner.run(main))()
