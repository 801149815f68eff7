"""Checks values for NaN and infinity; the error names the pairs of the broken values."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

NAMED = 64  # names in a message at most: as many as a batch usually has


def check_finite(values: ArrayLike, names: Sequence[str], what: str) -> None:
    """Raises FloatingPointError if any of `values`, (N,), is NaN or infinite.

    The message says how many, calls the values `what` and lists the pairs' `names`, (N,).
    """
    broken = ~np.isfinite(np.asarray(values, dtype=np.float64))
    if broken.any():
        named = [names[i] for i in np.flatnonzero(broken).tolist()]
        raise FloatingPointError(f"{what} of {len(named)} of {broken.size} pairs are NaN or infinite: {listed(named)}")


def listed(names: Sequence[str]) -> str:
    """Joins names as "a, b, c"; of more than NAMED names the first, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more
