"""Find everything that would stop a run, before it starts: python scripts/preflight.py experiment=table3 scale=paper"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.planning.preflight.report import preflight


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="preflight")
@job
def main(cfg: DictConfig) -> None:
    if cfg.calibrate:
        from cwpo.bench.calibration import calibrate  # late: it imports torch

        calibrate(cfg.store, print)
    preflight(cfg)


if __name__ == "__main__":
    entry(main)()
