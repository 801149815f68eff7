"""Loads, filters, splits and counts the pairs; see `cwpo.data.sources`."""

from types import SimpleNamespace
from typing import Any

from cwpo.data.sources import load_pairs
from cwpo.stages.base import Stage, Work

KEYS = "data seed human_fraction unlabeled_fraction holdout tokenizers max_tokens context".split()
READS = (*KEYS, "world_version", "text_version")


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.policy import load_tokenizer

    config = work.config
    tokenizers = [load_tokenizer(path, rev, chat=bool(chat)) for path, rev, *chat in config.tokenizers]
    if not tokenizers:
        from cwpo.data.toy import build_tokenizer

        tokenizers = [build_tokenizer()]
    pairs = load_pairs(SimpleNamespace(**{name: config[name] for name in KEYS} | {"tokenizers": tokenizers}))
    drops, held_out = pairs.attrs.pop("drops"), pairs.attrs.pop("held_out")
    kept = pairs.attrs.pop("kept", None)
    pairs.to_parquet(work.out / "pairs.parquet", index=False)
    held_out.to_parquet(work.out / "held_out.parquet", index=False)
    work.write_json("drops.json", drops)
    sizes = pairs["split"].value_counts().to_dict()
    summary = {"drops": drops, "pairs": sizes | ({"gold": len(held_out)} if len(held_out) else {})}
    return summary | ({"kept": kept} if kept else {})


PREPARE = Stage("prepare", 1, READS, run, light=True, early=True)
