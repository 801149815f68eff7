"""The annotator report's numbers, from gaps on held-out labelled pairs. Tables in, JSON values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, spearmanr

from cwpo.calibration import (
    Share,
    coverage_accuracy,
    discrimination,
    expected_calibration_error,
    fit_temperature,
    is_right,
    log_loss,
    reliability,
    right_probability,
    share,
    tempered,
)
from cwpo.statistics import paired_difference
from cwpo.weighting import scaled_sigmoid

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MORE_LABELS = 500


def report_numbers(
    tested: pd.DataFrame, curve: pd.DataFrame, unlabeled: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Everything measured on `tested`: prompt, response_a, response_b, domain, target, n_votes, gap, spread of held-out pairs.

    `curve` has n_train, pair_id and gap of annotators on fewer labels, with target; `unlabeled` has prompt, response_a, response_b
    and gap, for the shift. Pairs whose votes are tied count for calibration only.
    """
    decided = tested[tested["target"] != 0.5]
    gap, target = decided["gap"].to_numpy(), decided["target"].to_numpy()
    right = is_right(gap, target)
    confidence = scaled_sigmoid(np.abs(gap))
    longer = decided["response_a"].str.len().to_numpy() - decided["response_b"].str.len().to_numpy()
    longer_right, majority_right = is_right(longer, target), _majority(target)
    all_gap, all_target = tested["gap"].to_numpy(), tested["target"].to_numpy()
    calibrated = tempered(all_gap, all_target)
    held = (tested["target"] != 0.5).to_numpy()
    found = discrimination(confidence, right)
    numbers = {
        "pairs": len(tested),
        "decided_pairs": len(decided),
        "prompts": int(tested["prompt"].nunique()),
        "accuracy": _share(share(right)),
        "baselines": {"majority": _share(share(majority_right)), "longer": _share(share(longer_right))},
        "difference": {
            "majority": paired_difference(right, majority_right)._asdict(),
            "longer": paired_difference(right, longer_right)._asdict(),
        },
        "coverage": [{"coverage": c} | _share(s) for c, s in coverage_accuracy(confidence, right, COVERAGES)],
        "coverage_by_length_gap": [
            {"coverage": c} | _share(s) for c, s in coverage_accuracy(np.abs(longer), right, COVERAGES)
        ],
        "discrimination": found._asdict(),
        "calibration": {
            "temperature": fit_temperature(all_gap, all_target),
            "ece_before": expected_calibration_error(right_probability(gap), right),
            "ece_after": expected_calibration_error(right_probability(calibrated[held]), right),
            "log_loss_before": log_loss(all_gap, all_target),
            "log_loss_after": log_loss(calibrated, all_target),
            "bins_before": _bins(right_probability(gap), right),
            "bins_after": _bins(right_probability(calibrated[held]), right),
        },
        "bias": {
            "annotator_prefers_longer": _share(
                share(is_right(gap, np.where(longer > 0, 1.0, 0.0))[longer != 0])
            )
            if (longer != 0).any()
            else None,
            "people_prefer_longer": _share(share(longer_right[longer != 0])) if (longer != 0).any() else None,
            "annotator_prefers_a": _share(share(np.where(gap == 0, 0.5, gap > 0))),
            "people_prefer_a": _share(share(target > 0.5)),
        },
        "domains": {
            str(name): _share(share(right[(decided["domain"] == name).to_numpy()]))
            for name in sorted(decided["domain"].unique())
            if len(set(decided["domain"])) > 1
        },
        "votes": _votes(tested, confidence, decided),
        "members_disagree": float((decided["spread"] > np.abs(gap)).mean()),
        "learning_curve": learning_curve(curve),
        "more_labels": more_labels(curve),
    }
    if unlabeled is not None and len(unlabeled):
        numbers["shift"] = shift(tested, unlabeled)
    return numbers


def _majority(target: np.ndarray) -> np.ndarray:
    """Right or wrong, pair by pair, of always answering the side that is better more often."""
    a_wins = target > 0.5
    return (a_wins == (a_wins.mean() >= 0.5)).astype(float)


def _share(value: Share) -> dict[str, float]:
    return value._asdict()


def _bins(probability: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    return [{"expected": b.expected} | _share(b.accuracy) for b in reliability(probability, right)]


def _votes(tested: pd.DataFrame, confidence: np.ndarray, decided: pd.DataFrame) -> dict[str, Any] | None:
    """Does confidence find the pairs on which people agree? Rank correlation with how far the votes are from a tie."""
    several = (decided["n_votes"] > 1).to_numpy()
    if several.sum() < 10:
        return None
    agreement = np.abs(2 * decided["target"].to_numpy()[several] - 1)
    person = np.maximum(tested["target"], 1 - tested["target"])[tested["n_votes"] > 1]
    rank = spearmanr(confidence[several], agreement).statistic if len(set(agreement)) > 1 else float("nan")
    return {
        "pairs": int(several.sum()),
        "rank_correlation": float(rank),
        "one_vote_agrees_with_majority": float(person.mean()),
    }


def learning_curve(curve: pd.DataFrame) -> list[dict[str, float]]:
    """Accuracy on the same held-out pairs after training on fewer labels."""
    decided = curve[curve["target"] != 0.5]
    return [
        {"n_train": round(float(part["n_train"].mean()))}
        | _share(share(is_right(part["gap"], part["target"])))
        for _, part in decided.groupby("share", sort=True)
    ]


def more_labels(
    curve: pd.DataFrame, extra: int = MORE_LABELS, resamples: int = 1000, seed: int = 0
) -> dict[str, float] | None:
    """Accuracy that `extra` more labels would add if it kept growing with the logarithm of their number; with an interval.

    The slope is fitted through the learning curve, and the held-out pairs are resampled. None for a curve of one point.
    """
    decided = curve[curve["target"] != 0.5]
    table = decided.assign(right=is_right(decided["gap"], decided["target"])).pivot_table(
        index="pair_id", columns="share", values="right"
    )
    table = table.dropna()
    if table.shape[1] < 2 or len(table) < 2:
        return None
    sizes = decided.groupby("share")["n_train"].mean().loc[table.columns].to_numpy()
    steps = np.log2((sizes[-1] + extra) / sizes[-1])
    x = np.log2(sizes) - np.log2(sizes).mean()
    values = table.to_numpy()
    rng = np.random.default_rng(seed)
    means = np.stack(
        [
            values.mean(axis=0),
            *(values[rng.integers(len(values), size=len(values))].mean(axis=0) for _ in range(resamples)),
        ]
    )
    gains = steps * (means @ x) / (x @ x)
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    return {
        "extra": extra,
        "mean": float(gains[0]),
        "low": float(low),
        "high": float(high),
        "n_train": float(sizes[-1]),
    }


def shift(labeled: pd.DataFrame, unlabeled: pd.DataFrame) -> dict[str, Any]:
    """How far the pairs to be labelled differ from those tested on: Kolmogorov-Smirnov distances, and words never seen."""

    def lengths(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
        return np.concatenate([table[name].str.len().to_numpy() for name in names])

    def words(table: pd.DataFrame) -> set[str]:
        return {
            w
            for name in ("prompt", "response_a", "response_b")
            for text in table[name]
            for w in text.lower().split()
        }

    distances = {
        "prompt_length": ks_2samp(lengths(labeled, ["prompt"]), lengths(unlabeled, ["prompt"])),
        "response_length": ks_2samp(
            *(lengths(t, ["response_a", "response_b"]) for t in (labeled, unlabeled))
        ),
        "margin": ks_2samp(np.abs(labeled["gap"]), np.abs(unlabeled["gap"])),
    }
    new = words(unlabeled.head(len(labeled)))
    return {
        "unlabeled_pairs": len(unlabeled),
        "distances": {
            name: {"distance": float(r.statistic), "p": float(r.pvalue)} for name, r in distances.items()
        },
        "unseen_words": len(new - words(labeled)) / max(1, len(new)),
    }
