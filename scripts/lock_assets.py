"""Write the hub's commits of models and data sets into conf/assets.lock.yaml: python scripts/lock_assets.py"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job
from cwpo.commands.lock_assets import lock_assets


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="lock_assets")
@job
def main(cfg: DictConfig) -> None:
    lock_assets(cfg)


if __name__ == "__main__":
    entry(main)()
