"""Verify, list, explain, clean up or repair the store: python scripts/store.py action=verify"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.commands.store import look_after


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="store")
@job
def main(cfg: DictConfig) -> None:
    look_after(cfg)


if __name__ == "__main__":
    entry(main)()
