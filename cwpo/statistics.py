"""Accuracies, intervals and paired differences. NumPy in, plain numbers out; every random draw is seeded.

Per-seed values are a sequence of 1-D arrays, one array per seed with one number per prompt. Their interval comes from a
two-level bootstrap: seeds are resampled, then prompts within each drawn seed. With one seed the interval covers only
the variation between prompts; with three seeds it covers the variation between seeds as well, but understates it.

Several intervals share the same draws: `resample_counts` draws how often each prompt is taken, `resampled_means` gives
the means of one run under these draws, and `interval_of` combines the means of several seeds.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
DIGITS = 12  # decimals to which intervals are rounded
PerSeed = Any  # ArrayLike, or one ArrayLike per seed


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
    """Returns the share of N prompts on which the aligned model's reward is above the baseline's (section 4.1).

    Both are (N,). Ties count as losses. The standard error of a share p is sqrt(p (1 - p) / N). Raises ValueError for
    unequal lengths, no prompts, or rewards that are not finite.
    """
    a, b = _same_prompts(aligned, baseline)
    accuracy = float(np.mean(a > b))
    return GoldRewardAccuracy(accuracy, float(np.mean(a == b)), float(np.sqrt(accuracy * (1 - accuracy) / len(a))))


def bootstrap_interval(values: PerSeed, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Returns the mean over seeds of each seed's mean over prompts, with its percentile bootstrap interval."""
    groups = _per_seed(values)
    centres = [float(group.mean()) for group in groups]
    return interval_of(centres, resampled_means(groups, resamples, seed), confidence=confidence, seed=seed)


def clustered_interval(clusters: Sequence[Sequence[ArrayLike]], *, resamples: int = 2000) -> Interval:
    """Returns the mean, with 95 % interval, of clusters[seed][cell][prompt]; a cell is, for example, a data set.

    The mean is over prompts, then cells, then seeds. The bootstrap draws seeds with all of their cells, since the cells
    of one seed are not independent, and then prompts within each cell. Every seed must have the same cells; raises
    ValueError if seeds have different numbers of them.
    """
    sizes = {len(cells) for cells in clusters}
    if len(sizes) != 1:
        raise ValueError(f"every seed needs the same cells; got seeds with these numbers of cells: {sorted(sizes)}")
    groups = [_per_seed(list(cells)) for cells in clusters]
    every = [cell for cells in groups for cell in cells]
    means = resampled_means(every, resamples).reshape(len(groups), -1, resamples)
    centres = [float(np.mean([cell.mean() for cell in cells])) for cells in groups]
    return interval_of(centres, mean_of_cells(means))


def mean_of_cells(means: Iterable[Iterable[ArrayLike]]) -> Floats:
    """Averages resampled means over each seed's cells: means[seed][cell] holds R numbers; returns shape (seeds, R).

    It first shuffles each cell's R numbers. Otherwise the resamples of cells with equally many prompts would depend on
    each other, since such cells share their draws (see resampled_means).
    """
    rng = np.random.default_rng(0)
    return np.stack(
        [np.mean([rng.permutation(np.asarray(cell, dtype=np.float64)) for cell in cells], axis=0) for cells in means]
    )


def interval_of(centres: Sequence[float], means: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Returns the mean of `centres`, one mean per seed, with its percentile interval from R bootstrap draws.

    `means`, (S, R), holds R resampled means of each of S seeds (see resampled_means). Each draw takes S seeds with
    replacement, picks one of the R means of each drawn seed, and averages them.
    """
    drawn_means = np.asarray(means, dtype=np.float64)
    n, resamples = drawn_means.shape
    rng = np.random.default_rng(seed)
    drawn = rng.integers(n, size=(resamples, n))
    # A seed drawn twice must bring two different resamples of its prompts.
    inner = rng.integers(resamples, size=drawn.shape)
    totals = drawn_means[drawn, inner].mean(axis=1)
    tail = (1 - confidence) / 2
    # The last digits of a mean depend on the number of threads, and with them how 0.1365 is rounded for a table.
    mean, low, high = np.round([np.mean(centres), *np.quantile(totals, [tail, 1 - tail])], DIGITS)
    return Interval(float(mean), float(low), float(high))


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the ends of mean ± t(n − 1) · s / √n for n ≥ 2 finite numbers."""
    array = np.asarray(values, dtype=np.float64)
    reach = float(stdtrit(len(array) - 1, (1 + confidence) / 2) * array.std(ddof=1) / np.sqrt(len(array)))
    return float(array.mean()) - reach, float(array.mean()) + reach


def proportion_interval(shares: Sequence[float], counts: Sequence[int], *, resamples: int = 2000) -> Interval:
    """Returns the mean over seeds of `shares`, each seed's share of successes, with its 95 % bootstrap interval.

    A resample of a seed's n trials (`counts`) has a binomial number of successes, so the result of each trial is not
    needed. Raises ValueError for no shares or shares outside [0, 1].
    """
    p = np.asarray(shares, dtype=np.float64)
    if not len(p) or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"shares must be in [0, 1], one per seed; got {list(shares)}")
    n = np.asarray(counts)[:, None]
    means = np.random.default_rng([0, 1]).binomial(n, p[:, None], size=(len(p), resamples)) / n
    return interval_of(p.tolist(), means)


def subset_spread(values: ArrayLike, subsets: int = 3) -> tuple[float, float]:
    """Returns the mean and the standard deviation (n - 1) of the means of `subsets` consecutive parts of `values`.

    The parts have nearly equal length, as in the paper's Table 20. Raises ValueError for fewer values than parts.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < subsets:
        raise ValueError(f"{len(x)} prompts cannot be cut into {subsets} subsets")
    means = [part.mean() for part in np.array_split(x, subsets)]
    return float(np.mean(means)), float(np.std(means, ddof=1))


def paired_difference(
    a: PerSeed, b: PerSeed, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Returns the mean of a - b over the same prompts of the same seeds, with its bootstrap interval."""
    first, second = _per_seed(a), _per_seed(b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} seeds and b has {len(second)}; both need the same seeds")
    differences = [np.subtract(*_same_prompts(x, y)) for x, y in zip(first, second, strict=True)]
    interval = bootstrap_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
    return PairedDifference(*interval, len(differences), sum(map(len, differences)))


def resampled_means(samples: Sequence[NDArray[Any]], resamples: int, seed: int = 0) -> Floats:
    """Returns R bootstrap means of each of M samples, arrays of one number per prompt: shape (M, R).

    Each of the R draws takes N of a sample's N numbers with replacement. Samples of equal size share their draws, so
    for two runs on the same prompts the difference of their means is the resampled difference. Seeds share draws too,
    but `interval_of` keeps them independent: it picks among the R means separately for every seed.
    """
    means = np.empty((len(samples), resamples))
    for size in set(map(len, samples)):
        same = [at for at, sample in enumerate(samples) if len(sample) == size]
        means[same] = np.stack([samples[i] for i in same]) @ resample_counts(size, resamples, seed).T / size
    return means


@lru_cache(maxsize=8)
def resample_counts(size: int, resamples: int, seed: int = 0) -> Floats:
    """Returns how often each of N = `size` values is taken in each of R draws of N with replacement: shape (R, N)."""
    rng = np.random.default_rng([seed, size])
    cells = np.arange(resamples)[:, None] * size + rng.integers(size, size=(resamples, size))
    counts = np.bincount(cells.ravel(), minlength=resamples * size).reshape(resamples, size)
    drawn = counts.astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def principal_plane(points: ArrayLike) -> Callable[[ArrayLike], Floats]:
    """Returns a function that projects M vectors, (M, D), on the two main principal components of N `points`, (N, D).

    It subtracts the mean of `points` first, and returns shape (M, 2). A component's sign is such that its entry of
    largest size is positive. Raises ValueError for fewer than 2 points or dimensions, or `points` that are not finite.
    """
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise ValueError(f"a plane needs at least 2 points of at least 2 dimensions; got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"{int((~np.isfinite(x)).sum())} of the {x.size} coordinates of the points are NaN or infinite"
        )
    centre = x.mean(axis=0)
    axes = np.linalg.svd(x - centre, full_matrices=False)[2][:2]
    axes = axes * np.sign(axes[[0, 1], np.abs(axes).argmax(axis=1)])[:, None]
    return lambda others: (np.asarray(others, dtype=np.float64) - centre) @ axes.T


def mean_shift(points: ArrayLike, others: ArrayLike) -> float:
    """Returns the distance between the means of `points`, (N, D), and `others`, (M, D), over the spread of `points`.

    The spread is the root mean square distance of `points` from their mean: two draws of N points from one distribution
    are about sqrt(2 / N) apart. Raises ValueError for no points, coordinates that are not finite, or no spread at all.
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or not len(x) or not len(y) or x.shape[1] != y.shape[1]:
        raise ValueError(f"points and others must be (N, D) and (M, D), not empty; got {x.shape} and {y.shape}")
    centre = x.mean(axis=0)
    spread = np.sqrt(((x - centre) ** 2).sum(axis=1).mean())
    rounding = 1e-12 * np.abs(x).max()  # the mean of equal points may miss them by this much
    if not (spread > rounding and np.isfinite(spread) and np.isfinite(y).all()):
        raise ValueError(f"the spread of {len(x)} points is {spread}; it must be above 0, all points finite")
    return float(np.linalg.norm(y.mean(axis=0) - centre) / spread)


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
        raise ValueError(f"rewards must be (N,) on the same N prompts; got shapes {x.shape} and {y.shape}")
    if not len(x):
        raise ValueError("there are no prompts to compare on")
    broken = int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())
    if broken:
        raise ValueError(f"{broken} of {2 * len(x)} rewards are NaN or infinite")
    return x, y
