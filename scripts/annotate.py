"""Label and weight your own pairs: python scripts/annotate.py data=pairs.jsonl model=path/or/hub-id out=labeled"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="annotate")
@job
def main(cfg: DictConfig) -> None:
    from cwpo.own.annotate import label  # late: it imports torch; wrong arguments are refused before that

    label(cfg)


if __name__ == "__main__":
    entry(main)()
