"""Accuracies, intervals and paired differences. NumPy in, plain numbers out; every random draw is seeded.

Where a function takes per-seed values it wants a sequence of 1-D arrays, one per seed, one number per prompt. Its interval
comes from a two-level bootstrap: seeds are resampled, then prompts within each drawn seed. With one seed it covers the
prompts only; with three it is honest about prompts and optimistic about seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
PerSeed = Any  # ArrayLike, or one ArrayLike per seed
MOSTLY_DISTINCT = (
    0.75  # above this share of distinct values, drawing prompts is faster than drawing their counts
)


class GoldRewardAccuracy(NamedTuple):
    accuracy: float
    tie_rate: float
    standard_error: float


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    mean: float
    low: float
    high: float
    n_seeds: int
    n_prompts: int


def gold_reward_accuracy(aligned: ArrayLike, baseline: ArrayLike) -> GoldRewardAccuracy:
    """Share of prompts on which the aligned model's reward is above the baseline's (section 4.1), both shape (N,).

    Ties count as losses. The standard error is sqrt(p (1 - p) / N). Raises ValueError for unequal lengths, no prompts,
    or rewards that are not finite.
    """
    a, b = _same_prompts(aligned, baseline)
    accuracy = float(np.mean(a > b))
    return GoldRewardAccuracy(
        accuracy, float(np.mean(a == b)), float(np.sqrt(accuracy * (1 - accuracy) / len(a)))
    )


def win_rate(a: ArrayLike, b: ArrayLike) -> float:
    """Share of prompts on which `a` is above `b`, ties counted half; 1/2 means equal."""
    x, y = _same_prompts(a, b)
    return float(np.mean(x > y) + np.mean(x == y) / 2)


def bootstrap_interval(
    values: PerSeed, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over seeds of the means over prompts, with its percentile bootstrap interval."""
    groups = _per_seed(values)
    rng = np.random.default_rng(seed)
    means = np.stack([_resampled_means(group, resamples, rng) for group in groups])
    drawn = rng.integers(len(groups), size=(resamples, len(groups)))
    # A seed drawn twice must bring two different resamples of its prompts.
    inner = rng.integers(resamples, size=drawn.shape)
    totals = means[drawn, inner].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(totals, [tail, 1 - tail])
    return Interval(float(np.mean([group.mean() for group in groups])), float(low), float(high))


def paired_difference(
    a: PerSeed, b: PerSeed, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Mean of a - b on the same prompts of the same seeds, with its bootstrap interval."""
    first, second = _per_seed(a), _per_seed(b)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} seeds cannot be paired")
    differences = [np.subtract(*_same_prompts(x, y)) for x, y in zip(first, second, strict=True)]
    interval = bootstrap_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
    return PairedDifference(*interval, len(differences), sum(map(len, differences)))


def principal_plane(points: ArrayLike) -> Callable[[ArrayLike], Floats]:
    """The map (M, D) -> (M, 2) onto the first two principal components of `points`, (N, D), about their mean.

    A component's sign is such that its largest entry is positive. Raises ValueError for fewer than 2 points or dimensions.
    """
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise ValueError(f"a plane needs at least 2 points of at least 2 dimensions; got shape {x.shape}")
    centre = x.mean(axis=0)
    axes = np.linalg.svd(x - centre, full_matrices=False)[2][:2]
    axes = axes * np.sign(axes[[0, 1], np.abs(axes).argmax(axis=1)])[:, None]
    return lambda others: (np.asarray(others, dtype=np.float64) - centre) @ axes.T


def mean_shift(points: ArrayLike, others: ArrayLike) -> float:
    """Distance between the means of two clouds, (N, D) and (M, D), over the spread of the first.

    The spread is the root mean square distance of `points` from their mean: two draws of N points from one distribution
    are about sqrt(2 / N) apart.
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(others, dtype=np.float64)
    centre = x.mean(axis=0)
    spread = np.sqrt(((x - centre) ** 2).sum(axis=1).mean())
    return float(np.linalg.norm(y.mean(axis=0) - centre) / spread)


def _resampled_means(group: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    # Few distinct values (wins and losses, or discrete rewards) need only their counts.
    distinct, counts = np.unique(group, return_counts=True)
    if len(distinct) <= MOSTLY_DISTINCT * len(group):
        drawn = rng.multinomial(len(group), counts / len(group), size=resamples)
        return drawn @ distinct / len(group)
    return np.array([group[rng.integers(len(group), size=len(group))].mean() for _ in range(resamples)])


def _per_seed(values: PerSeed) -> list[Floats]:
    if not isinstance(values, Sequence) and np.ndim(values) == 1:
        rows: list[ArrayLike] = [values]
    elif isinstance(values, Sequence) and (not values or np.ndim(values[0]) == 0):
        rows = [values]
    else:
        rows = list(values)
    groups = [np.asarray(row, dtype=np.float64) for row in rows]
    if not groups or any(group.ndim != 1 or not len(group) for group in groups):
        raise ValueError("values must hold at least one number for every seed")
    broken = sum(int((~np.isfinite(group)).sum()) for group in groups)
    if broken:
        raise ValueError(f"{broken} of {sum(map(len, groups))} values are NaN or infinite")
    return groups


def _same_prompts(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"rewards must be on the same prompts; got shapes {x.shape} and {y.shape}")
    if not len(x):
        raise ValueError("there are no prompts to compare on")
    broken = int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())
    if broken:
        raise ValueError(f"{broken} of {2 * len(x)} rewards are NaN or infinite")
    return x, y
