"""Computes gold rewards of both responses of every pair.

They measure the quality of labels. Only arms with gold, flipped or poisoned labels train on labels made from rewards.
"""

from typing import Any

import pandas as pd

from cwpo.config.schema import JUDGE_SETTINGS
from cwpo.finite import check_finite
from cwpo.stages.base import Stage, Work
from cwpo.store.shards import map_rows

SHARD = 5_000  # pairs or responses whose rewards are saved together while the stage runs

GOLD_KEYS = "name path revision temperature batch_size model asks prompt_file".split()
GOLD_READS = (*(f"gold.{key}" for key in (*GOLD_KEYS, *JUDGE_SETTINGS)), "world_version", "text_version")


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.gold import both_rewards, load_gold

    pairs = work.table("prepare", "pairs.parquet")
    gold = load_gold(work.config.gold, trained_folder(work), work.device, work.tokens)

    def score(part: pd.DataFrame) -> pd.DataFrame:
        names = part["pair_id"].tolist()
        table = pd.DataFrame({"pair_id": names})
        texts = (part[name].tolist() for name in ("prompt", "response_a", "response_b"))
        for side, rewards in zip("ab", both_rewards(gold, *texts), strict=True):
            check_finite(rewards, names, f"the gold rewards of response {side}")
            table[f"gold_{side}"] = rewards
        return table

    table = map_rows(pairs, score, scratch=work.kept(), rows=SHARD, progress=work.progress)
    table.to_parquet(work.out / "gold.parquet", index=False)
    return {"scored": len(table), **getattr(gold, "counts", {})}


def trained_folder(work: Work) -> Any:
    """Returns the folder of the gold model that the parent train_gold trained, or None if there is no such parent."""
    return work.parents["train_gold"] / "model" if "train_gold" in work.parents else None


SCORE_GOLD = Stage("score_gold", 1, GOLD_READS, run)
