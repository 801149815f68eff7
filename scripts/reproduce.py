"""Experiments and their tables: python scripts/reproduce.py experiment=table1 scale=toy seeds=[0,1,2] jobs=2"""

import hydra
from omegaconf import DictConfig

from cwpo import cli, runner


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="reproduce")
@cli.job
def main(cfg: DictConfig) -> None:
    runner.reproduce(cfg)


if __name__ == "__main__":
    cli.entry(main)()
