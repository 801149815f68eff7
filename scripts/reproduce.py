"""Run experiments and make tables: python scripts/reproduce.py experiment=table1 scale=toy seeds=[0,1,2] jobs=2"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.commands.reproduce import reproduce


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="reproduce")
@job
def main(cfg: DictConfig) -> None:
    reproduce(cfg)


if __name__ == "__main__":
    entry(main)()
