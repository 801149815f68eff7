"""Numbers that went wrong, named by the pairs they belong to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

NAMED = 64  # as many as a batch usually has


def check_finite(values: ArrayLike, names: Sequence[str], what: str) -> None:
    """FloatingPointError that says how many of `what`, (N,), are NaN or infinite and names their pairs, (N,)."""
    broken = ~np.isfinite(np.asarray(values, dtype=np.float64))
    if broken.any():
        named = [names[i] for i in np.flatnonzero(broken).tolist()]
        raise FloatingPointError(f"{what} of {len(named)} of {broken.size} pairs are NaN or infinite: {listed(named)}")


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, of very many the first."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more
