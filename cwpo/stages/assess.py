"""Measures the annotator's accuracy on the test pairs or on D_unlabeled, against the human labels and against gold.

Accuracy against gold leaves out the pairs whose two responses have equal gold rewards.
"""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.calibration import coverage_accuracy, reliability
from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import labeled_pairs

COVERAGES = [tenths / 10 for tenths in range(1, 11)]  # shares of the most confident pairs for which W&B shows accuracy


def run(work: Work) -> dict[str, Any]:
    pairs = work.table("prepare", "pairs.parquet")
    table = pairs[pairs["split"] == work.config.annotator.assessed_on]
    table = table.merge(work.table("annotate", "annotations.parquet"), on="pair_id", validate="one_to_one")
    gap = np.zeros(len(table))  # all pairs count as ties if gold has not scored them
    if "score_gold" in work.parents:
        table = table.merge(work.table("score_gold", "gold.parquet"), on="pair_id", validate="one_to_one")
        gap = (table["gold_a"] - table["gold_b"]).to_numpy()
    label, human, margin = (table[name].to_numpy() for name in ("label", "human_label", "margin"))
    metrics = annotator_metrics(label, human, margin, gap) | {"n_train": len(labeled_pairs(work))}
    if work.tracker.shows:
        _show(work, table)
    work.write_json("metrics.json", metrics)
    return metrics


def _show(work: Work, table: pd.DataFrame) -> None:
    """Logs the annotator's accuracy against human labels.

    It logs measured and expected accuracy per confidence bin, and accuracy on the most confident pairs.
    """
    right = (table["label"] == table["human_label"]).to_numpy(dtype=float)
    confidence = table["confidence"].to_numpy()
    calibration = [(expected, *accuracy) for expected, accuracy in reliability((1 + confidence) / 2, right)]
    coverage = [(share, *accuracy) for share, accuracy in coverage_accuracy(table["margin"], right, COVERAGES)]
    for x, name, chart, title, rows in (
        ("expected accuracy", "calibration", "reliability", "Annotator's calibration", calibration),
        ("share of pairs", "most_confident", "coverage", "The most confident pairs", coverage),
    ):
        frame = pd.DataFrame(rows, columns=[x, "accuracy", "low", "high", "pairs"])
        work.tracker.table(f"annotator/{name}", frame)
        work.tracker.chart(f"annotator/{chart}", frame, x, "accuracy", title)


def annotator_metrics(label: np.ndarray, human: np.ndarray, margin: np.ndarray, gold_gap: np.ndarray) -> dict[str, Any]:
    """Returns accuracies, in [0, 1], of N labels "a" or "b" against human labels and gold; n_eval is N.

    gold_gap: gold reward of response `a` minus that of `b`. Numbers that compare with gold leave out pairs whose gap is
    0; they are None if no pair is left. accuracy_gold_top30 and accuracy_gold_bottom30 cover the 30 % of the pairs left
    that have the highest and the lowest `margin`. Margins order pairs as the confidence C1 does, but have no ties where
    C1 rounds to 1.
    """
    decided = gold_gap != 0
    gold = np.where(gold_gap > 0, "a", "b")
    order = np.argsort(-margin, kind="stable")
    order = order[decided[order]]
    share = round(0.3 * len(order))
    return {
        "accuracy_human": float((label == human).mean()),
        "accuracy_gold": _mean((gold == label)[decided]),
        "accuracy_gold_top30": _mean((gold == label)[order[:share]]),
        "accuracy_gold_bottom30": _mean((gold == label)[order[len(order) - share :]]),
        "human_gold_agreement": _mean((gold == human)[decided]),
        "n_eval": len(label),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


ASSESS = Stage("assess", 1, ("annotator.assessed_on",), run, light=True, measure=True)
