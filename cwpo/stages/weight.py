"""preferences.parquet: the selected pairs with their weights, a file other preference trainers can read as well."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.weighting import pair_weights

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "label_source", "margin", "confidence"]


def run(work: Work) -> dict[str, Any]:
    table = pd.read_parquet(work.parents["select"] / "selected.parquet")
    table["weight"] = pair_weights(work.config.weighting.name, table["margin"], work.config.weighting.scale)
    table[COLUMNS].to_parquet(work.out / "preferences.parquet", index=False)
    return {"n_train": len(table), "mean_weight": float(table["weight"].mean())}


WEIGHT = Stage("weight", 1, ("weighting",), run)
