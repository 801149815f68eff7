"""Computes the annotator report's numbers from gaps, score(`a`) - score(`b`), of held-out labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, spearmanr

from cwpo.calibration import (
    bootstrap,
    coverage_accuracy,
    discrimination,
    expected_calibration_error,
    fit_temperature,
    is_right,
    log_losses,
    mean_difference,
    one_group,
    reliability,
    share,
    tempered,
)
from cwpo.weighting import scaled_sigmoid, sigmoid

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MORE_LABELS = 500  # additional labels for which the gain in accuracy is forecast
INTERVAL = ("mean", "low", "high")
SEVERAL_VOTES = 10  # fewest pairs with several votes on which agreement is measured


def report_numbers(
    tested: pd.DataFrame, curve: pd.DataFrame | None, unlabeled: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Returns all numbers of the report as JSON values, measured on the held-out pairs `tested`.

    Columns of `tested`: prompt, response_a, response_b, domain, target, share, n_votes (see `convert`), gap, agree (see
    `answers`); of `curve`, for `learning_curve`: share_trained_on, n_train, pair_id, prompt, target, gap; of
    `unlabeled`, for `shift`: prompt, chosen, rejected. Intervals are 95 % and treat the pairs of a prompt as one draw.
    Pairs with tied votes count for calibration only. A number that these pairs cannot give is None.
    """
    decided = tested[tested["target"] != 0.5]
    gap, target, prompts = (decided[name].to_numpy() for name in ("gap", "target", "prompt"))
    right, confidence = is_right(gap, target), scaled_sigmoid(np.abs(gap))
    longer = (decided["response_a"].str.len() - decided["response_b"].str.len()).to_numpy()  # in characters
    numbers = {
        "pairs": len(tested),
        "decided_pairs": len(decided),
        "prompts": int(tested["prompt"].nunique()),
        **accuracy_numbers(gap, target, longer, prompts),
        "coverage_by_length_gap": coverage(np.abs(longer), right, prompts),
        "calibration": calibration(tested),
        "bias": _bias(gap, target, longer, prompts),
        "domains": _domains(decided["domain"].to_numpy(), right, prompts),
        "votes": votes(decided, confidence),
        "members": _members(decided["agree"].to_numpy(), right, prompts),
        "learning_curve": [] if curve is None else learning_curve(curve),
        "more_labels": None if curve is None else more_labels(curve),
    }
    if unlabeled is not None and len(unlabeled):
        numbers["shift"] = shift(tested, unlabeled)
    return numbers


def accuracy_numbers(gap: np.ndarray, target: np.ndarray, longer: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Returns the annotator's accuracy, also against two baselines, and how well confidence, |gap|, ranks the pairs.

    Arguments, (N,): `gap`, score(`a`) - score(`b`); `target`, above 1/2 where `a` is better, below where `b` is;
    `longer`, the length of `a` minus that of `b`; `groups`: intervals treat the pairs of one group as one draw. Keys:
    `accuracy`; `baselines`, accuracies of always naming the side that wins more often (majority) and of naming the
    longer response; `difference`, accuracy minus that of each baseline; `coverage`, accuracies on the most confident
    pairs; `discrimination`, AUC with which confidence tells right from wrong answers, None if all are right or wrong.
    """
    right = is_right(gap, target)
    confidence = np.abs(gap)  # orders pairs as C1 does, without ties where C1 rounds to 1
    a_wins = target > 0.5
    majority = (a_wins == (a_wins.mean() >= 0.5)).astype(float)
    baselines = {"majority": majority, "longer": is_right(longer, target)}
    informative = discrimination(confidence, right, groups)
    return {
        "accuracy": share(right, groups)._asdict(),
        "baselines": {name: share(values, groups)._asdict() for name, values in baselines.items()},
        "difference": {name: mean_difference(right, values, groups)._asdict() for name, values in baselines.items()},
        "coverage": coverage(confidence, right, groups),
        "discrimination": None if np.isnan(informative.mean) else informative._asdict(),
    }


def coverage(confidence: np.ndarray, right: np.ndarray, groups: np.ndarray) -> list[dict[str, Any]]:
    """Returns accuracy on the most confident pairs, per share in COVERAGES: {coverage (share), mean, low, high, n}."""
    shares = coverage_accuracy(confidence, right, COVERAGES, groups)
    return [{"coverage": cover, **value._asdict()} for cover, value in shares]


def calibration(tested: pd.DataFrame) -> dict[str, Any]:
    """Returns log-loss, ECE and reliability before and after dividing gaps by a cross-fitted temperature."""
    gap, target, prompts = (tested[name].to_numpy() for name in ("gap", "target", "prompt"))
    scaled = tempered(gap, target, prompts)
    held = target != 0.5
    right = is_right(gap[held], target[held])
    before, after = sigmoid(np.abs(gap[held])), sigmoid(np.abs(scaled[held]))
    loss_before, loss_after = log_losses(gap, target), log_losses(scaled, target)
    return {
        "temperature": fit_temperature(gap, target),
        "log_loss_before": float(loss_before.mean()),
        "log_loss_after": float(loss_after.mean()),
        "log_loss_change": mean_difference(loss_after, loss_before, prompts)._asdict(),
        "ece_before": expected_calibration_error(before, right),
        "ece_after": expected_calibration_error(after, right),
        "bins_before": _bins(before, right, prompts[held]),
        "bins_after": _bins(after, right, prompts[held]),
    }


def _bins(probability: np.ndarray, right: np.ndarray, prompts: np.ndarray) -> list[dict[str, Any]]:
    bins = reliability(probability, right, groups=prompts)
    return [{"expected": expected, **measured._asdict()} for expected, measured in bins]


def _bias(gap: np.ndarray, target: np.ndarray, longer: np.ndarray, prompts: np.ndarray) -> dict[str, Any]:
    differ, first = longer != 0, np.where(gap == 0, 0.5, gap > 0)
    bias: dict[str, Any] = {
        "annotator_prefers_a": share(first, prompts)._asdict(),
        "people_prefer_a": share(target > 0.5, prompts)._asdict(),
        "annotator_prefers_longer": None,
        "people_prefer_longer": None,
    }
    if differ.any():
        names = prompts[differ]
        by_length = (longer[differ] > 0).astype(float)
        bias["annotator_prefers_longer"] = share(is_right(gap[differ], by_length), names)._asdict()
        bias["people_prefer_longer"] = share((target[differ] > 0.5) == (by_length > 0.5), names)._asdict()
    return bias


def _domains(domain: np.ndarray, right: np.ndarray, prompts: np.ndarray) -> dict[str, Any]:
    """Returns {domain: its accuracy as {mean, low, high, n}}; {} if there is only one domain."""
    names = sorted(set(domain))
    parts = {str(name): domain == name for name in names} if len(names) > 1 else {}
    return {name: share(right[rows], prompts[rows])._asdict() for name, rows in parts.items()}


def _members(agree: np.ndarray, right: np.ndarray, prompts: np.ndarray) -> dict[str, Any] | None:
    """Returns how often ensemble members disagree, and accuracy where they do and do not; None if always or never."""
    split = agree < 1
    if not split.any() or split.all():
        return None
    return {
        "disagree": share(split, prompts)._asdict(),
        "accuracy_agreed": share(right[~split], prompts[~split])._asdict(),
        "accuracy_disagreed": share(right[split], prompts[split])._asdict(),
    }


def votes(decided: pd.DataFrame, confidence: np.ndarray) -> dict[str, Any] | None:
    """Returns how confidence follows people's agreement, |2 s - 1|, where s is the share of a pair's votes for `a`.

    `pairs`: the number of pairs with several votes; only these count. rank_correlation: {mean, low, high}, of
    confidence with agreement. one_vote_agrees_with_majority: the mean share of votes for the majority. Returns None if
    `pairs` is below SEVERAL_VOTES, or if all these pairs have the same agreement, confidence or prompt.
    """
    several = (decided["n_votes"] > 1).to_numpy()
    part = decided[several]
    agreement = np.abs(2 * part["share"].to_numpy() - 1)
    sure = confidence[several]
    if len(part) < SEVERAL_VOTES or len(set(agreement)) < 2 or len(set(sure)) < 2 or one_group(part["prompt"]):
        return None

    def rank_correlation(i: np.ndarray) -> float:
        varies = len(set(agreement[i])) > 1 and len(set(sure[i])) > 1
        return spearmanr(sure[i], agreement[i]).statistic if varies else np.nan

    found = bootstrap(rank_correlation, len(part), part["prompt"], 500)
    return {
        "pairs": len(part),
        "rank_correlation": dict(zip(INTERVAL, found, strict=True)),
        "one_vote_agrees_with_majority": float(np.maximum(part["share"], 1 - part["share"]).mean()),
    }


def learning_curve(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns accuracy on the same held-out pairs for each number of training labels: {n_train, mean, low, high, n}."""
    decided = curve[curve["target"] != 0.5]
    return [
        {
            "n_train": round(float(part["n_train"].mean())),
            **share(is_right(part["gap"], part["target"]), part["prompt"])._asdict(),
        }
        for _, part in decided.groupby("share_trained_on", sort=True)
    ]


def more_labels(curve: pd.DataFrame) -> dict[str, float] | None:
    """Returns the gain in accuracy to expect from MORE_LABELS more labels: {extra, mean, low, high, n_train}.

    extra: MORE_LABELS. n_train: the largest number of labels in the learning curve. The gain is that of a line, accuracy against log(number
    of labels), fitted to the curve; low to high is its 95 % interval. None if the curve has only one number of labels,
    or if pairs of fewer than two prompts were tested at every number.
    """
    decided = curve[curve["target"] != 0.5]
    table = decided.assign(right=is_right(decided["gap"], decided["target"])).pivot_table(
        index=["prompt", "pair_id"], columns="share_trained_on", values="right"
    )
    table = table.dropna()
    groups = table.index.get_level_values("prompt").to_numpy()
    if table.shape[1] < 2 or len(set(groups)) < 2:
        return None
    sizes = decided.groupby("share_trained_on")["n_train"].mean().loc[table.columns].to_numpy()
    steps = np.log2((sizes[-1] + MORE_LABELS) / sizes[-1])
    x = np.log2(sizes) - np.log2(sizes).mean()
    if not x.any():  # in the first fold share 1 is four fifths of the pairs, as many as share 0.8
        return None
    values = table.to_numpy()

    def gain(i: np.ndarray) -> float:
        return steps * (values[i].mean(axis=0) @ x) / (x @ x)

    found = bootstrap(gain, len(values), groups)
    return {"extra": MORE_LABELS, **dict(zip(INTERVAL, found, strict=True)), "n_train": float(sizes[-1])}


def shift(labeled: pd.DataFrame, unlabeled: pd.DataFrame) -> dict[str, Any]:
    """Measures how the pairs `unlabeled`, which the annotator labelled, differ from the tested pairs `labeled`.

    `distances`: Kolmogorov-Smirnov statistic and p-value for the lengths of prompts and of responses. `unseen_words`:
    the share of the distinct words in the first len(labeled) pairs of `unlabeled` that do not occur in `labeled`.
    Confidences are not compared: those of `labeled` come from annotators trained on fewer labels.
    """

    def words(table: pd.DataFrame, names: Sequence[str]) -> set[str]:
        return {word for name in names for text in table[name] for word in text.lower().split()}

    old, new = ("prompt", "response_a", "response_b"), ("prompt", "chosen", "rejected")
    measured = {
        "prompt length": [table["prompt"].str.len() for table in (labeled, unlabeled)],
        "response length": [
            pd.concat([table[name].str.len() for name in names[1:]])
            for table, names in ((labeled, old), (unlabeled, new))
        ],
    }
    distances = {name: ks_2samp(*values, method="asymp") for name, values in measured.items()}
    new_words = words(unlabeled.head(len(labeled)), new)
    return {
        "unlabeled_pairs": len(unlabeled),
        "distances": {name: {"distance": float(d.statistic), "p": float(d.pvalue)} for name, d in distances.items()},
        "unseen_words": len(new_words - words(labeled, old)) / max(1, len(new_words)),
    }
