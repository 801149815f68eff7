"""The pairs, filtered, split and counted; see `cwpo.data.sources`."""

import json
from types import SimpleNamespace
from typing import Any

from cwpo.data.sources import load_pairs
from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.policy import load_tokenizer

    config = work.config
    tokenizers = [
        load_tokenizer(path, revision, chat=bool(chat)) for path, revision, *chat in config.tokenizers
    ]
    if not tokenizers:
        from cwpo.data.toy import build_tokenizer

        tokenizers = [build_tokenizer()]
    pairs = load_pairs(
        SimpleNamespace(
            data=config.data,
            seed=config.seed,
            human_fraction=config.human_fraction,
            unlabeled_fraction=config.unlabeled_fraction,
            holdout=config.holdout,
            tokenizers=tokenizers,
            max_tokens=config.max_tokens,
            context=config.context,
        )
    )
    drops, held_out = pairs.attrs.pop("drops"), pairs.attrs.pop("held_out")
    kept = pairs.attrs.pop("kept", None)
    pairs.to_parquet(work.out / "pairs.parquet", index=False)
    held_out.to_parquet(work.out / "held_out.parquet", index=False)
    (work.out / "drops.json").write_text(json.dumps(drops, indent=1) + "\n", encoding="utf-8")
    sizes = pairs["split"].value_counts().to_dict()
    summary = {"drops": drops, "pairs": sizes | ({"gold": len(held_out)} if len(held_out) else {})}
    return summary | ({"kept": kept} if kept else {})


PREPARE = Stage(
    "prepare",
    1,
    (
        "data",
        "seed",
        "human_fraction",
        "unlabeled_fraction",
        "holdout",
        "tokenizers",
        "max_tokens",
        "context",
        "world_version",
        "text_version",
    ),
    run,
    light=True,
    early=True,
)
