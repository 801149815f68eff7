"""Pair weights from the weak model's score gap (Eq. 7 and Table 5). NumPy in, NumPy out.

A gap is score(chosen) - score(rejected) in logits, shape (N,), never negative because the weak model itself chose.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

MEAN_ABOVE = 1e-300  # division by a smaller mean overflows
Floats = NDArray[np.float64]


def _checked_gap(gap: ArrayLike) -> Floats:
    values = np.asarray(gap, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {values.size} score gaps are NaN or infinite")
    if (values < 0).any():
        raise ValueError(
            f"{(values < 0).sum()} of {values.size} score gaps are negative; "
            "a gap is score(chosen) - score(rejected) under the annotator that chose"
        )
    return values


def scaled_sigmoid(gap: ArrayLike) -> Floats:
    """C1 = 2 (sigmoid(gap) - 1/2), in [0, 1]: the paper's confidence (Eq. 7)."""
    return np.tanh(_checked_gap(gap) / 2)


def sigmoid(gap: ArrayLike) -> Floats:
    """C2 = sigmoid(gap), in [1/2, 1]: the Bradley-Terry probability of the label (Table 5)."""
    return expit(_checked_gap(gap))


def clipped_gap(gap: ArrayLike, scale: float = 1.0) -> Floats:
    """C3 = min(gap, 1) for scale 1, C4 = min(0.2 gap, 1) for scale 0.2; in [0, 1] (Table 5)."""
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    return np.minimum(scale * _checked_gap(gap), 1.0)


def most_confident(confidence: ArrayLike, fraction: float) -> NDArray[np.bool_]:
    """Mask, shape (N,), of the round(fraction * N) most confident pairs, at least one.

    Pairs tied at the boundary are taken in their given order, so exactly that many are kept.
    """
    values = np.asarray(confidence, dtype=np.float64)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must lie in (0, 1]")
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {values.size} confidences are NaN")
    mask = np.zeros(values.shape, dtype=bool)
    keep = max(1, round(fraction * values.size))
    mask[np.argsort(-values, kind="stable")[:keep]] = True
    return mask


def mean_one(weights: ArrayLike) -> Floats:
    """The weights divided by their mean, so that weighting leaves the size of the average step alone.

    Raises ValueError if all weights are zero (or too small to divide by), or one is negative or not finite.
    """
    values = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > MEAN_ABOVE * values.size):
        raise ValueError(f"the {values.size} weights sum to {values.sum()}; they cannot be given mean 1")
    return values / values.mean()


# Weightings by name, each a function of gap and scale. conf/weighting adds controls, named after one: c1_permuted.
WEIGHTINGS: dict[str, Callable[[ArrayLike, float], Floats]] = {
    "uniform": lambda gap, scale: np.ones(np.shape(gap)),
    "c1": lambda gap, scale: scaled_sigmoid(gap),
    "c2": lambda gap, scale: sigmoid(gap),
    "c3": clipped_gap,
    "c4": clipped_gap,
}


def pair_weights(name: str, gap: ArrayLike, scale: float = 1.0) -> Floats:
    """The weights, (N,), of the weighting `name`, a choice of conf/weighting, before normalising and permuting."""
    return WEIGHTINGS[name.partition("_")[0]](gap, scale)
