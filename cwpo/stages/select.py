"""The pairs an arm trains on, chosen and rejected according to the arm's own labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cwpo.errors import InputError
from cwpo.stages.base import Stage, Work
from cwpo.weighting import most_confident

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "label_source", "margin", "confidence"]


def run(work: Work) -> dict[str, Any]:
    method = work.config.method
    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
    table = (
        pairs[pairs["split"] != "test"] if method.pairs == "all" else pairs[pairs["split"] == method.pairs]
    )
    if "annotate" in work.parents:
        annotations = pd.read_parquet(work.parents["annotate"] / "annotations.parquet")
        table = table.merge(annotations, on="pair_id", validate="one_to_one")
        label = table["label"]
    else:
        table = table.assign(margin=np.nan, confidence=np.nan)
        label = table["human_label"]
    a_wins = label == "a"
    table = table.assign(
        chosen=table["response_a"].where(a_wins, table["response_b"]),
        rejected=table["response_b"].where(a_wins, table["response_a"]),
        label_source=method.labels,
    )
    table = table[_kept(table["confidence"].to_numpy(), method.selection)][COLUMNS]
    if len(table) < 2:
        raise InputError(
            f"method.selection {method.selection.kind}={method.selection.value} keeps {len(table)} of {len(label)} pairs; "
            "lower the threshold or raise the fraction"
        )
    table.to_parquet(work.out / "selected.parquet", index=False)
    return {"selected": len(table), "of": len(label)}


def _kept(confidence: np.ndarray, selection: Any) -> np.ndarray:
    if selection.kind == "top_fraction":
        return most_confident(confidence, selection.value)
    if selection.kind == "threshold":
        return confidence >= selection.value
    return np.ones(len(confidence), dtype=bool)


SELECT = Stage("select", 1, ("method.labels", "method.pairs", "method.selection"), run)
