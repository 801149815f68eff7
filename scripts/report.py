"""Make tables and figures from results/ alone: python scripts/report.py scale=toy"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.report.build import build_report


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="report")
@job
def main(cfg: DictConfig) -> None:
    for path in build_report(Path(cfg.results), cfg.scale):
        print(path)


if __name__ == "__main__":
    entry(main)()
