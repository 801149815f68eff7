"""How far an annotator's scores can be trusted: accuracy by confidence, calibration, temperature. NumPy in, numbers out.

A gap is score(a) - score(b) in logits, (N,), for pairs whose better response people know; `target` is the share of people
who prefer a, in [0, 1], (N,): 0 or 1 for a single label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import binomtest, mannwhitneyu

Floats = NDArray[np.float64]


class Share(NamedTuple):
    """A proportion with its 95 % Wilson interval."""

    mean: float
    low: float
    high: float
    n: int


class Bin(NamedTuple):
    """Pairs of like confidence: what the annotator expects to be right, and how often it is."""

    expected: float
    accuracy: Share


def share(successes: ArrayLike) -> Share:
    """The share of True in (N,) booleans, or the mean of 0, 1/2 and 1. Raises ValueError for none."""
    values = np.asarray(successes, dtype=np.float64)
    if not len(values):
        raise ValueError("there is nothing to take a share of")
    interval = binomtest(round(float(values.sum())), len(values)).proportion_ci(method="wilson")
    return Share(float(values.mean()), float(interval.low), float(interval.high), len(values))


def is_right(gap: ArrayLike, target: ArrayLike) -> Floats:
    """1 where the sign of the gap is the majority's, 1/2 where the gap is 0, else 0. A tied target is nobody's: ValueError."""
    x, y = _pair(gap, target)
    if (y == 0.5).any():
        raise ValueError(f"{int((y == 0.5).sum())} targets are ties; leave them out")
    return np.where(x == 0, 0.5, (x > 0) == (y > 0.5)).astype(np.float64)


def coverage_accuracy(
    confidence: ArrayLike, right: ArrayLike, coverages: Sequence[float]
) -> list[tuple[float, Share]]:
    """Accuracy on the most confident share of the pairs, for each coverage in (0, 1]."""
    c, r = _pair(confidence, right)
    order = np.argsort(-c, kind="stable")
    return [(cover, share(r[order[: max(1, round(cover * len(c)))]])) for cover in coverages]


def reliability(probability: ArrayLike, right: ArrayLike, bins: int = 10) -> list[Bin]:
    """Pairs in `bins` groups of equal size by the probability, in [1/2, 1], that the label is right."""
    p, r = _pair(probability, right)
    groups = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return [Bin(float(p[g].mean()), share(r[g])) for g in groups]


def expected_calibration_error(probability: ArrayLike, right: ArrayLike, bins: int = 10) -> float:
    """Mean distance of expected and observed accuracy over bins of equal size, weighted by size; in [0, 1]."""
    groups = reliability(probability, right, bins)
    return sum(b.accuracy.n * abs(b.expected - b.accuracy.mean) for b in groups) / sum(
        b.accuracy.n for b in groups
    )


def log_loss(gap: ArrayLike, target: ArrayLike, temperature: float = 1.0) -> float:
    """Mean cross-entropy, in nats, of sigmoid(gap / temperature) against the target shares."""
    x, y = _pair(gap, target)
    z = x / temperature
    return float(np.mean(np.logaddexp(0, z) - y * z))


def fit_temperature(gap: ArrayLike, target: ArrayLike) -> float:
    """The temperature in [0.01, 100] of the least log_loss: above 1 where the scores are overconfident."""
    x, y = _pair(gap, target)
    fitted = minimize_scalar(
        lambda t: log_loss(x, y, float(np.exp(t))), bounds=(np.log(0.01), np.log(100)), method="bounded"
    )
    return float(np.exp(fitted.x))


def tempered(gap: ArrayLike, target: ArrayLike, folds: int = 2, seed: int = 0) -> Floats:
    """The gaps, each divided by a temperature fitted on the other folds: what calibration does to pairs not seen by it."""
    x, y = _pair(gap, target)
    fold = np.random.default_rng(seed).permutation(len(x)) % folds
    result = np.empty_like(x)
    for k in range(folds):
        result[fold == k] = x[fold == k] / fit_temperature(x[fold != k], y[fold != k])
    return result


def right_probability(gap: ArrayLike) -> Floats:
    """sigmoid(|gap|), in [1/2, 1]: the Bradley-Terry probability that the label is right."""
    return expit(np.abs(np.asarray(gap, dtype=np.float64)))


def discrimination(
    confidence: ArrayLike, right: ArrayLike, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """P(confidence of a right label > that of a wrong one), ties half, with its bootstrap interval; 1/2 is uninformative.

    NaN where all labels are right or all are wrong.
    """
    c, r = _pair(confidence, right)
    value = _auc(c, r)
    if np.isnan(value):
        return value, value, value
    rng = np.random.default_rng(seed)
    drawn = [_auc(c[i], r[i]) for i in rng.integers(len(c), size=(resamples, len(c)))]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return value, float(low), float(high)


def _auc(confidence: Floats, right: Floats) -> float:
    good, bad = confidence[right == 1], confidence[right == 0]
    if not len(good) or not len(bad):
        return float("nan")
    return float(mannwhitneyu(good, bad).statistic / (len(good) * len(bad)))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"two columns of equal length are needed; got shapes {x.shape} and {y.shape}")
    broken = int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())
    if broken:
        raise ValueError(f"{broken} of {2 * len(x)} values are NaN or infinite")
    return x, y
