"""Trains the stand-in gold model by Bradley-Terry on held-out human-labelled pairs that no arm sees."""

from typing import Any

from cwpo.stages.base import Stage, Work
from cwpo.stages.train_annotator import fit_scalar


def run(work: Work) -> dict[str, Any]:
    gold = work.config.gold
    pairs = work.table("prepare", "held_out.parquet")
    path = work.parents.get("gold_model", gold.path)
    return fit_scalar(work, pairs, path, gold.revision, gold.training, head_std=0.01)


READS = ("gold.path", "gold.revision", "gold.training", "seed", "text_version")
TRAIN_GOLD = Stage("train_gold", 1, READS, run, launched=True, early=True)
