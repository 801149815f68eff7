"""Compare two models: python scripts/compare.py before=sft after=aligned prompts=p.jsonl gold=reward out=compared"""

import hydra
from omegaconf import DictConfig

from cwpo.commands.entry import entry, job


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="compare")
@job
def main(cfg: DictConfig) -> None:
    from cwpo.own.compare import compare  # late: it imports torch; wrong arguments are refused before that

    compare(cfg)


if __name__ == "__main__":
    entry(main)()
