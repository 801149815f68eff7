"""The grid: families x tokenizers x precisions x adapters, in which any two values of two axes meet."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from architectures import ARCHITECTURES
from many_tokenizers import at_hand

PRECISIONS = ("float32", "bfloat16 weights", "bfloat16 autocast")
ADAPTERS = ("none", "LoRA", "rsLoRA", "DoRA")
KINDS = list(itertools.product(PRECISIONS, ADAPTERS))
LARGE = {"GPT-2"}  # a vocabulary of 50,257 tokens costs a minute and is byte-level BPE as others are
FAR = 7  # families between two cells of the bounded form


class Cell(NamedTuple):
    family: str
    tokenizer: str
    precision: str
    adapter: str


def tokenizers() -> list[str]:
    return [name for name in at_hand() if name not in LARGE]


def full() -> list[Cell]:
    """Every family with every tokenizer; kinds take turns, so that each meets every family and every tokenizer."""
    return [
        Cell(family, tokenizer, *KINDS[(f + t) % len(KINDS)])
        for f, family in enumerate(ARCHITECTURES)
        for t, tokenizer in enumerate(tokenizers())
    ]


def bounded() -> list[Cell]:
    """One cell for each tokenizer, of families and kinds that are far apart in the grid."""
    families = list(ARCHITECTURES)
    return [
        Cell(families[(FAR * t + 4) % len(families)], tokenizer, *KINDS[5 * t % len(KINDS)])
        for t, tokenizer in enumerate(tokenizers())
    ]
