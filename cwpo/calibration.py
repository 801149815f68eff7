"""Measures how far an annotator's scores can be trusted: accuracy by confidence, calibration, temperature.

Arrays have the shape (N,): one entry for each of N pairs, which have responses `a` and `b` and a human label. `gap` is
the annotator's score of `a` minus that of `b`, in logits. `target` is the share of humans who prefer `a`, in [0, 1]: 0
or 1 for a single label. `right` is 1 for a correct label of the annotator, 0 for a wrong one, 1/2 for a tie. `groups`
names the prompt of each pair: pairs of one prompt are not independent, and with `groups` intervals account for this.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import norm, rankdata

Floats = NDArray[np.float64]
Z = float(norm.ppf(0.975))


class Share(NamedTuple):
    """A proportion or mean over `n` pairs, with its 95 % interval from `low` to `high`."""

    mean: float
    low: float
    high: float
    n: int


def share(successes: ArrayLike, groups: ArrayLike | None = None) -> Share:
    """Returns the mean of N booleans, or of N values 0, 1/2 and 1, with Wilson's interval. Raises ValueError for N = 0.

    With `groups`, the interval is as wide as for N / design_effect(successes, groups) independent values.
    """
    values = np.asarray(successes, dtype=np.float64)
    if not len(values):
        raise ValueError("a share needs at least one value, and there is none")
    p, n = float(values.mean()), len(values) / design_effect(values, groups)
    centre, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return Share(p, min(p, max(0.0, float(low))), max(p, min(1.0, float(high))), len(values))  # rounding errors


def design_effect(values: ArrayLike, groups: ArrayLike | None) -> float:
    """Returns the design effect, at least 1: the factor by which grouping increases the variance of the mean.

    The variance without grouping is that of N independent zeros and ones with the same mean. Without `groups` the
    factor is 1. With one group, or if all values are 0 or all are 1, the similarity within groups cannot be estimated.
    Then each group counts as one value: the result is N / number of groups.
    """
    if groups is None:
        return 1.0
    x = np.asarray(values, dtype=np.float64)
    p = float(x.mean())
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.bincount(index, weights=x - p)
    if len(sums) < 2 or not 0 < p < 1:
        return len(x) / len(sums)
    return max(1.0, float((sums**2).sum() * len(sums) / (len(sums) - 1) / (len(x) * p * (1 - p))))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], n: int, groups: ArrayLike | None, resamples: int = 1000
) -> tuple[float, float, float]:
    """Returns statistic(indices of all n pairs) with its 95 % interval over `resampled` pairs. Omits values of NaN."""
    drawn = [statistic(index) for index in resampled(n, groups, resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(statistic(np.arange(n))), float(low), float(high)


def resampled(n: int, groups: ArrayLike | None, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yields `resamples` bootstrap samples of n pairs, each an array of indices. Draws whole `groups`, if given."""
    rng = np.random.default_rng(0)
    index = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if index.max() + 1 == n:  # every pair is a group of its own
        for _ in range(resamples):
            yield rng.integers(n, size=n)
        return
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    for _ in range(resamples):
        yield np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])


def one_group(groups: ArrayLike | None) -> bool:
    """Returns whether all pairs are of one group: every `resampled` sample is the same then and gives no interval."""
    return groups is not None and len(np.unique(np.asarray(groups))) == 1


def mean_difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None) -> Share:
    """Returns the mean of `a` - `b`, two arrays with one number for each of N pairs, with its bootstrap interval.

    With one group, the interval holds the differences of all pairs, and 0.
    """
    gap = np.subtract(*_pair(a, b))
    if one_group(groups):
        return Share(float(gap.mean()), min(0.0, float(gap.min())), max(0.0, float(gap.max())), len(gap))
    return Share(*bootstrap(lambda i: gap[i].mean(), len(gap), groups), len(gap))


def is_right(gap: ArrayLike, target: ArrayLike) -> Floats:
    """Returns for each pair 1 if gap > 0 and target > 1/2, or gap < 0 and target < 1/2; 1/2 if gap = 0; else 0.

    So 1 means that the annotator agrees with most humans. Raises ValueError for a target of 1/2, which has no majority.
    """
    x, y = _pair(gap, target)
    if (y == 0.5).any():
        raise ValueError(f"{int((y == 0.5).sum())} targets are ties; leave them out")
    return np.where(x == 0, 0.5, (x > 0) == (y > 0.5)).astype(np.float64)


def coverage_accuracy(
    confidence: ArrayLike, right: ArrayLike, coverages: Sequence[float], groups: ArrayLike | None = None
) -> list[tuple[float, Share]]:
    """Returns, for each c in `coverages`, in (0, 1], the pair (c, accuracy on the c * N most confident of N pairs)."""
    c, r = _pair(confidence, right)
    order = np.argsort(-c, kind="stable")
    return [(cover, _accuracy(r, order[: max(1, round(cover * len(c)))], groups)) for cover in coverages]


def reliability(
    probability: ArrayLike, right: ArrayLike, bins: int = 10, groups: ArrayLike | None = None
) -> list[tuple[float, Share]]:
    """Sorts N pairs by `probability` of a correct label (>= 1/2) into min(bins, N) bins of nearly equal size.

    Returns each bin's (expected accuracy, which is its mean probability, and measured accuracy).
    """
    p, r = _pair(probability, right)
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return [(float(p[i].mean()), _accuracy(r, i, groups)) for i in parts]


def _accuracy(right: Floats, index: NDArray[np.int64], groups: ArrayLike | None) -> Share:
    return share(right[index], None if groups is None else np.asarray(groups)[index])


def expected_calibration_error(probability: ArrayLike, right: ArrayLike, bins: int = 10) -> float:
    """Returns the mean over N pairs of |expected - measured accuracy| of the pair's bin (see reliability); in [0, 1].

    Even a perfectly calibrated annotator of accuracy p gets about sqrt(2 p (1 - p) bins / (pi N)) by chance.
    """
    parts = reliability(probability, right, bins)
    total = sum(measured.n for _, measured in parts)
    return sum(measured.n * abs(expected - measured.mean) for expected, measured in parts) / total


def log_losses(gap: ArrayLike, target: ArrayLike) -> Floats:
    """Returns each pair's cross-entropy, in nats, of P(`a` is better) = sigmoid(gap) against `target`: (N,)."""
    x, y = _pair(gap, target)
    return np.logaddexp(0, x) - y * x


def fit_temperature(gap: ArrayLike, target: ArrayLike) -> float:
    """Returns the temperature in [0.01, 100] that minimises the mean of log_losses; above 1, the scores are overconfident."""
    x, y = _pair(gap, target)
    fitted = minimize_scalar(
        lambda t: log_losses(x / np.exp(t), y).mean(), bounds=(np.log(0.01), np.log(100)), method="bounded"
    )
    return float(np.exp(fitted.x))


def tempered(gap: ArrayLike, target: ArrayLike, groups: ArrayLike) -> Floats:
    """Returns each pair's gap, (N,), divided by a temperature that is fitted to the pairs in the other of two halves.

    The halves are random; all pairs of a group lie in one. With only one group the gaps are returned as they are.
    """
    x, y = _pair(gap, target)
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    if not index.any():
        return x
    first = (np.random.default_rng(0).permutation(index.max() + 1) % 2 == 0)[index]
    of_first, of_second = (fit_temperature(x[half], y[half]) for half in (first, ~first))
    return x / np.where(first, of_second, of_first)


def discrimination(confidence: ArrayLike, right: ArrayLike, groups: ArrayLike | None = None) -> Share:
    """Returns the AUC, with bootstrap interval: P(a correct label has more confidence than a wrong one); 1/2 is chance.

    Equal confidences count half; pairs with right = 1/2 are left out. NaN if all labels are correct or all are wrong.
    With one group, the interval is [0, 1].
    """
    c, r = _pair(confidence, right)
    value = _auc(c, r)
    if np.isnan(value):
        return Share(value, value, value, len(c))
    if one_group(groups):
        return Share(value, 0.0, 1.0, len(c))
    return Share(*bootstrap(lambda i: _auc(c[i], r[i]), len(c), groups, 500), len(c))


def _auc(confidence: Floats, right: Floats) -> float:
    good, bad = confidence[right == 1], confidence[right == 0]
    if not len(good) or not len(bad):
        return float("nan")
    ranks = rankdata(np.concatenate([good, bad]))[: len(good)]
    return float((ranks.sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad)))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"two columns of equal length are needed; got shapes {x.shape} and {y.shape}")
    broken = int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())
    if broken:
        raise ValueError(f"{broken} of {2 * len(x)} values are NaN or infinite")
    return x, y
