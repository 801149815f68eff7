"""Selects the pairs an arm trains on, with chosen and rejected responses according to the arm's own labels."""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.labels import chosen_rejected
from cwpo.errors import InputError
from cwpo.stages.base import Stage, Work
from cwpo.weighting import most_confident

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "label_source", "margin", "confidence"]


def run(work: Work) -> dict[str, Any]:
    method = work.config.method
    table = work.table("prepare", "pairs.parquet")
    split = table["split"]
    table = table[split != "test"] if method.pairs == "all" else table[split == method.pairs]
    if "annotate" in work.parents:
        table = table.merge(work.table("annotate", "annotations.parquet"), on="pair_id", validate="one_to_one")
    else:
        table = table.assign(margin=np.nan, confidence=np.nan)
    of = len(table)
    table = chosen_rejected(table, _labels(work, table) == "a").assign(label_source=method.labels)
    table = table[_kept(table, method.selection)][COLUMNS]
    if len(table) < 2:
        raise InputError(
            f"method.selection {method.selection.kind}={method.selection.value} keeps {len(table)} of {of} pairs, "
            "at least 2 are needed; change method.selection.value: lower a threshold or raise a fraction"
        )
    table.to_parquet(work.out / "selected.parquet", index=False)
    return {"selected": len(table), "of": of}


def _labels(work: Work, table: pd.DataFrame) -> pd.Series:
    """Returns "a" or "b" for every pair: the label of the human, the weak model or gold, as method.labels says.

    Equal gold rewards give a random label. method.labels=flips takes gold's labels and flips some of them at random,
    only on pairs with unequal gold rewards. The number of flips is the number of these pairs that the weak model labels
    wrongly.
    """
    source = work.config.method.labels
    if source in ("human", "weak"):
        return table["human_label" if source == "human" else "label"]
    gold = work.table("score_gold", "gold.parquet").set_index("pair_id").loc[table["pair_id"]]
    gap = (gold["gold_a"] - gold["gold_b"]).to_numpy()
    rng = np.random.default_rng([work.config.seed, 5])
    a_wins = (gap > 0) | ((gap == 0) & (rng.random(len(gap)) < 0.5))
    if source == "flips":
        decided = gap != 0
        wrong = (table["label"] == "a").to_numpy() != a_wins
        a_wins[decided] ^= rng.permutation(wrong[decided])
    return pd.Series(np.where(a_wins, "a", "b"), index=table.index)


def _kept(table: pd.DataFrame, selection: Any) -> np.ndarray:
    if selection.kind == "top_fraction":
        # margins order pairs as C1 does, without ties where C1 rounds to 1
        return most_confident(table["margin"], selection.value)
    confidence = table["confidence"].to_numpy()
    return confidence >= selection.value if selection.kind == "threshold" else np.ones(len(confidence), dtype=bool)


SELECT = Stage("select", 1, ("method.labels", "method.pairs", "method.selection", "seed"), run, light=True)
