"""Writes preferences.parquet: the selected pairs with their weights, a file that other trainers can read."""

from typing import Any

import numpy as np

from cwpo.errors import InputError
from cwpo.stages.base import Stage, Work
from cwpo.weighting import mean_one, pair_weights

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "label_source", "margin", "confidence"]


def run(work: Work) -> dict[str, Any]:
    table = work.table("select", "selected.parquet")
    weighting = work.config.weighting
    weights = pair_weights(weighting.name, table["margin"], weighting.scale)
    if not np.any(weights > 0):
        raise InputError(
            f"all {len(weights)} weights are 0: the annotator prefers neither response of any selected pair, so nothing would be "
            "learned; use weighting=uniform, or another annotator"
        )
    if weighting.normalize:
        weights = mean_one(weights)
    if weighting.permute:
        weights = np.random.default_rng([work.config.seed, 3]).permutation(weights)
    table["weight"] = weights
    table[COLUMNS].to_parquet(work.out / "preferences.parquet", index=False)
    return {"n_train": len(table), "mean_weight": float(table["weight"].mean())}


WEIGHT = Stage("weight", 1, ("weighting", "seed"), run, light=True)
