"""Rules for single values, written as metadata on the fields of the configuration's dataclasses.

A rule is a function of a value. It returns None, or the words that follow `key=value ` in a message. Functions below
that take a `default` return a dataclass field: `beta: float = above_zero(0.5)`. Null and the default are not checked.
"""

import math
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from cwpo.errors import nearest

Rule = Callable[[Any], str | None]
LARGEST = 10**9  # bound on the absolute value of every number
PAIRS = 10**8
PROCESSES = 1024
SEED = 2**31 - 1  # stages add small numbers to a seed, and numpy and torch refuse larger ones
MISSING_CELLS = ("nan", "null", "none", "na", "n/a", "inf", "-inf", "true", "false")
DEVICES = ("auto", "cpu", "cuda", "cuda:<number>", "mps")


def ruled(default: Any, *rules: Rule) -> Any:
    """Returns a field with these rules. The values of a list or mapping are checked one by one."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"rules": rules})
    return field(default=default, metadata={"rules": rules})


def above_zero(default: Any = MISSING) -> Any:
    return ruled(default, Range(0, ends="(]"))


def at_least(low: float, default: Any = MISSING, most: float = LARGEST) -> Any:
    return ruled(default, Range(low, most=most))


def between(low: float, high: float, ends: str, default: Any = MISSING) -> Any:
    """Returns a field for a number between `low` and `high`. `ends`, as in "[)", says which bounds are included."""
    return ruled(default, Range(low, high, ends))


def one_of(*values: str, default: Any = MISSING) -> Any:
    return ruled(default, Choice(lambda: values))


def file_in(folder: Path, default: Any = MISSING) -> Any:
    """Returns a field for the name of a YAML file in `folder`, without the extension."""
    return ruled(default, Choice(lambda: sorted(file.stem for file in folder.glob("*.yaml"))))


def listed_in(registry: str, default: Any = MISSING) -> Any:
    """Returns a field for a text that must be in a collection, e.g. the name of a weighting. `registry`: "module:name"
    of the collection, or of a function that returns it."""

    def values() -> Iterable[str]:
        names = pkgutil.resolve_name(registry)
        return names() if callable(names) else names

    return ruled(default, Choice(values))


@dataclass(frozen=True)
class Range:
    """Rule: the value lies between `low` and `high` (for `ends` see `between`), and is at most `most`."""

    low: float
    high: float = math.inf
    ends: str = "[]"
    most: float = LARGEST

    def __call__(self, value: float) -> str | None:
        above = value > self.low or (value == self.low and self.ends[0] == "[")
        below = value < self.high or (value == self.high and self.ends[1] == "]")
        if not (above and below and math.isfinite(value)):
            return f"must be {self}"
        return f"is beyond all bounds; it must be at most {self.most:,}" if value > self.most else None

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"
        return "positive" if self.ends[0] == "(" else f"at least {self.low:g}"


@dataclass(frozen=True)
class Choice:
    """Rule: the value is one of those that `valid` returns."""

    valid: Callable[[], Iterable[str]]

    def __call__(self, value: str) -> str | None:
        options = list(self.valid())
        return None if value in options else f"is unknown; {nearest(value, options)}"


def tokens(text: str) -> str | None:
    whole = text.isdigit() and 0 < int(text) <= LARGEST
    return None if whole or text == "auto" else "must be a positive number of tokens, or auto"


def matches(pattern: str, why: str) -> Rule:
    """Returns a rule: the whole text must match the regular expression `pattern`; `why` is the message if not."""
    return lambda text: None if re.fullmatch(pattern, text) else why


file_name = matches(
    r"(?!\.)[^/\\]{0,100}", "becomes part of file names: at most 100 characters, no slash, and no dot at the start"
)
revision = matches(r"(?!.*\.\.)[\w+.-]+(/[\w+.-]+)*", "is not a branch, tag or commit")
wandb_name = matches(r"[^/\\#?%:]*", "is not a name for Weights & Biases: it may not contain / \\ # ? % or :")
endpoint = matches(
    r"https?://([\w.-]+(:\d+)?(/[\w.~-]+)*|\[[\da-f:]+\](:\d+)?(/[\w.~-]+)*)/?",
    "is not an address of an endpoint: http(s)://host/path, without user, password or query",
)


def cell(text: str) -> str | None:
    """Rule: the text stays text when a result table is read. "1e3" would become a number, "nan" a missing value."""
    try:
        float(text)
    except ValueError:
        if text.lower() not in MISSING_CELLS:
            return None
    return "would be read as a number or as missing in the result tables; use a name with letters"


def inner_folder(text: str) -> str | None:
    leaves = text.startswith(("/", "~")) or ".." in text.split("/")
    return "is not a folder inside the data set" if leaves else None


def chat(text: str) -> str | None:
    valid = ("auto", "true", "false")
    return None if text.lower() in valid else f"is unknown; {nearest(text, valid)}"


def device(text: str) -> str | None:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        return None
    return f"is unknown; {nearest(text, DEVICES)}"
