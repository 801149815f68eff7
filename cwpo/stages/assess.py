"""How good the annotator is, on the test pairs or on D_unlabeled: against the human labels and against gold.

Pairs whose two responses have equal gold rewards say nothing about accuracy against gold and are left out there.
"""

import json
from typing import Any

import numpy as np
import pandas as pd

from cwpo.calibration import coverage_accuracy, reliability
from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import labeled_pairs

COVERAGES = (
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    1.0,
)  # shares of the most confident pairs that W&B shows


def run(work: Work) -> dict[str, Any]:
    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
    table = pairs[pairs["split"] == work.config.annotator.assessed_on].merge(
        pd.read_parquet(work.parents["annotate"] / "annotations.parquet"),
        on="pair_id",
        validate="one_to_one",
    )
    gap = np.zeros(len(table))  # undecided, where gold has not seen the pairs
    if "score_gold" in work.parents:
        gold = pd.read_parquet(work.parents["score_gold"] / "gold.parquet")
        table = table.merge(gold, on="pair_id", validate="one_to_one")
        gap = (table["gold_a"] - table["gold_b"]).to_numpy()
    metrics = annotator_metrics(
        table["label"].to_numpy(), table["human_label"].to_numpy(), gap, table["confidence"].to_numpy()
    )
    metrics["n_train"] = len(labeled_pairs(work))
    if work.tracker.shows:
        _show(work, table)
    (work.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics


def _show(work: Work, table: pd.DataFrame) -> None:
    """Calibration against the human labels: how often pairs of like confidence are right, and how often they should be."""
    right = (table["label"] == table["human_label"]).to_numpy(dtype=float)
    confidence = table["confidence"].to_numpy()
    bins = pd.DataFrame(
        {
            "expected accuracy": b.expected,
            "accuracy": b.accuracy.mean,
            "low": b.accuracy.low,
            "high": b.accuracy.high,
        }
        | {"pairs": b.accuracy.n}
        for b in reliability((1 + confidence) / 2, right)
    )
    covered = pd.DataFrame(
        {
            "share of pairs": share,
            "accuracy": found.mean,
            "low": found.low,
            "high": found.high,
            "pairs": found.n,
        }
        for share, found in coverage_accuracy(confidence, right, COVERAGES)
    )
    work.tracker.table("annotator/calibration", bins)
    work.tracker.chart(
        "annotator/reliability", bins, "expected accuracy", "accuracy", "Annotator's calibration"
    )
    work.tracker.table("annotator/most_confident", covered)
    work.tracker.chart(
        "annotator/coverage", covered, "share of pairs", "accuracy", "The most confident pairs"
    )


def annotator_metrics(
    label: np.ndarray, human: np.ndarray, gold_gap: np.ndarray, confidence: np.ndarray
) -> dict[str, Any]:
    """Accuracies of labels ("a" or "b"), all of shape (N,); gold_gap is gold(a) - gold(b)."""
    decided = gold_gap != 0
    right = np.where(gold_gap > 0, "a", "b") == label
    order = np.argsort(-confidence, kind="stable")
    order = order[decided[order]]
    share = round(0.3 * len(order))
    return {
        "accuracy_human": float((label == human).mean()),
        "accuracy_gold": _mean(right[decided]),
        "accuracy_gold_top30": _mean(right[order[:share]]),
        "accuracy_gold_bottom30": _mean(right[order[len(order) - share :]]),
        "human_gold_agreement": _mean((np.where(gold_gap > 0, "a", "b") == human)[decided]),
        "n_eval": len(label),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


ASSESS = Stage("assess", 1, ("annotator.assessed_on",), run, light=True, measure=True)
