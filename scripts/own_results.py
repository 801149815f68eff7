"""Annotators measured on real pairs, into results/own: python scripts/own_results.py data=../shared/data"""

import hydra
from omegaconf import DictConfig

from cwpo import cli
from cwpo.own.real import measure


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="own_results")
@cli.job
def main(cfg: DictConfig) -> None:
    measure(cfg)


if __name__ == "__main__":
    cli.entry(main)()
