"""Computes the weights of N pairs from the weak model's score gaps (Eq. 7 and Table 5), with NumPy.

A gap is score(chosen) - score(rejected) in logits. It is never negative, because the weak model itself chose.
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
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {values.size} score gaps are NaN or infinite; drop them")
    if (values < 0).any():
        raise ValueError(
            f"{(values < 0).sum()} of {values.size} score gaps are negative; "
            "a gap is score(chosen) - score(rejected) under the annotator that chose"
        )
    return values


def scaled_sigmoid(gap: ArrayLike) -> Floats:
    """Returns the paper's confidence C1 = 2 (sigmoid(gap) - 1/2), in [0, 1] (Eq. 7)."""
    return np.tanh(_checked_gap(gap) / 2)


def sigmoid(gap: ArrayLike) -> Floats:
    """Returns C2 = sigmoid(gap), in [1/2, 1]: the Bradley-Terry probability of the label (Table 5)."""
    return expit(_checked_gap(gap))


def clipped_gap(gap: ArrayLike, scale: float = 1.0) -> Floats:
    """Returns min(scale * gap, 1), in [0, 1]. Scale 1 gives C3 and scale 0.2 gives C4 of the paper's Table 5."""
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    return np.minimum(scale * _checked_gap(gap), 1.0)


def most_confident(confidence: ArrayLike, fraction: float) -> NDArray[np.bool_]:
    """Returns a mask that is True for the round(fraction * N) most confident of N pairs, at least one.

    Pairs tied at the boundary are taken in their given order, so exactly that many are kept.
    """
    values = np.asarray(confidence, dtype=np.float64)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must lie in (0, 1]")
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {values.size} confidences are NaN; drop these pairs")
    mask = np.zeros(values.shape, dtype=bool)
    keep = max(1, round(fraction * values.size))
    mask[np.argsort(-values, kind="stable")[:keep]] = True
    return mask


def mean_one(weights: ArrayLike) -> Floats:
    """Returns the weights divided by their mean, so that weighting does not change the size of the average step.

    Raises ValueError if all weights are zero (or too small to divide by), or one is negative or not finite.
    """
    values = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > MEAN_ABOVE * values.size):
        raise ValueError(
            f"the {values.size} weights sum to {values.sum()}; they cannot be given mean 1 "
            "unless all are finite and >= 0, and some are > 0"
        )
    return values / values.mean()


# Weightings by name, each a function of gap and scale. A control in conf/weighting begins with a name: c1_permuted.
WEIGHTINGS: dict[str, Callable[[ArrayLike, float], Floats]] = {
    "uniform": lambda gap, scale: np.ones(np.shape(gap)),
    "c1": lambda gap, scale: scaled_sigmoid(gap),
    "c2": lambda gap, scale: sigmoid(gap),
    "c3": clipped_gap,
    "c4": clipped_gap,
}


def pair_weights(name: str, gap: ArrayLike, scale: float = 1.0) -> Floats:
    """Returns N weights, not yet normalized or permuted. `name`: as in conf/weighting. Only c3 and c4 use `scale`."""
    return WEIGHTINGS[name.partition("_")[0]](gap, scale)
