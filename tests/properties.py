"""Property-based tests: how many examples, counted as they run; and values that nobody sends on purpose.

`make properties` runs them in full and prints the count; the ordinary tests try a few of each.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cwpo.errors import InputError

FULL = os.environ.get("CWPO_PROPERTIES") == "full"
EXAMPLES = 500 if FULL else 12
COUNTED = {"properties": 0, "examples": 0}


def holds(*strategies: Any, share: float = 1.0, **named: Any) -> Callable[[Callable], Callable]:
    """As hypothesis.given, with the number of examples of this run (`share` of it where one takes long), each counted."""

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            COUNTED["examples"] += 1
            test(*args, **kwargs)

        tried = settings(
            max_examples=max(5, round(EXAMPLES * share)),
            deadline=None,
            database=None,
            derandomize=not FULL,
            phases=[Phase.explicit, Phase.generate, Phase.shrink] if FULL else [Phase.explicit, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        COUNTED["properties"] += 1
        return tried(given(*strategies, **named)(counted))

    return decorate


def tried(function: Callable, *args: Any, **kwargs: Any) -> tuple[Any, InputError | None]:
    """(what the function returns, None), or (None, the InputError it raises). Other errors are defects."""
    try:
        return function(*args, **kwargs), None
    except InputError as error:
        return None, error


def summary() -> list[str]:
    """A line for the end of the session, if any example was tried."""
    if not COUNTED["examples"]:
        return []
    return [f"properties: {COUNTED['properties']} properties, {COUNTED['examples']:,} examples"]


# Emoji with joiners, right-to-left text and overrides, NUL, every kind of line end, marks, escapes, markup, what CSV reads.
ODD = [
    "", " ", "\n", "\r", "\r\n", "\t", "\x00", "\x1b[31mred", "\u2028", "\x85", "\ufeff", "\u202eevil", "\u05e9\u05dc\u05d5\u05dd", "👩\u200d🚀",
    "e\u0301", "é", "\\", '"', "'", ",", ";", "|", "<script>", "nan", "null", "None", "0", "a", "tie", "=1+1", "\U0010ffff",
]  # fmt: skip
TEXT = st.text(max_size=8) | st.sampled_from(ODD) | st.lists(st.sampled_from(ODD), max_size=4).map("".join)
WORDS = st.lists(st.sampled_from(["yes", "no", "maybe", "👩\u200d🚀"]), max_size=12).map(" ".join)
HALVES = st.sampled_from(["\ud83d", "a\udc00", "\udfff\ud800"])
# Whatever JSON can hold where a text is wanted.
ANYTHING = (
    TEXT
    | HALVES
    | st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.lists(TEXT, max_size=2)
    | st.dictionaries(st.sampled_from(["role", "content", "x"]), TEXT, max_size=2)
    | st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT | HALVES}), max_size=3)
)
FINITE = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-300])
BROKEN = st.sampled_from([float("nan"), float("inf"), float("-inf")])


def numbers(elements: Any = FINITE, least: int = 0, most: int = 20) -> Any:
    """Lists of numbers: any, all the same, or of two values only."""
    few = st.lists(elements, min_size=1, max_size=2)
    tied = few.flatmap(lambda values: st.lists(st.sampled_from(values), min_size=least, max_size=most))
    return st.lists(elements, min_size=least, max_size=most) | tied


def with_broken(elements: Any = FINITE, most: int = 20) -> Any:
    """Lists of numbers of which at least one is NaN or infinite."""
    return st.tuples(st.lists(elements, max_size=most), BROKEN, st.integers(0, most)).map(
        lambda parts: np.insert(np.array(parts[0], dtype=float), min(parts[2], len(parts[0])), parts[1]).tolist()
    )
