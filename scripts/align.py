"""Align a model on weighted pairs: python scripts/align.py preferences=p.parquet model=path/or/hub-id out=aligned"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="align")
@job
def main(cfg: DictConfig) -> None:
    from cwpo.own.align import align  # late: it imports torch; wrong arguments are refused before that

    align(cfg)


if __name__ == "__main__":
    entry(main)()
