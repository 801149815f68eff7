"""Checks one value per pair for NaN and infinity; the error names the pairs whose values are broken."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

NAMED = 64  # the most names in a message: as many as a batch usually has


def check_finite(values: ArrayLike, names: Sequence[str], what: str) -> None:
    """Raises FloatingPointError if any of `values`, one for each of N pairs (or prompts), is NaN or infinite.

    The message counts and lists the pairs, by their `names`; `what` says what the values are, such as "the scores".
    """
    broken = ~np.isfinite(np.asarray(values, dtype=np.float64))
    if broken.any():
        named = [names[i] for i in np.flatnonzero(broken).tolist()]
        raise FloatingPointError(f"{what} of {len(named)} of {broken.size} pairs are NaN or infinite: {listed(named)}")


def listed(names: Sequence[str]) -> str:
    """Joins names as "x, y, z". Of more than NAMED names it lists the first NAMED, and says how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more
