"""Measure annotators on real pairs and write results/own: python scripts/own_results.py data=../shared/data"""

import hydra
from omegaconf import DictConfig

from cwpo.bench.real import measure
from cwpo.commands.entry import entry, job


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="own_results")
@job
def main(cfg: DictConfig) -> None:
    measure(cfg)


if __name__ == "__main__":
    entry(main)()
