"""Compare speed with TRL: python scripts/benchmark.py workloads=[hh] data=pairs.jsonl tokenizer=facebook/opt-125m"""

import hydra
from omegaconf import DictConfig

from cwpo.bench.report import benchmark
from cwpo.commands.entry import entry, job


@hydra.main(version_base="1.3", config_path="../conf/command", config_name="benchmark")
@job
def main(cfg: DictConfig) -> None:
    benchmark(cfg)


if __name__ == "__main__":
    entry(main)()
