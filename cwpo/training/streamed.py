"""Rows made while training goes on, for data sets that are read as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

CHUNK = 256  # examples tokenised, and scored by the reference, at a time


class StreamedRows(IterableDataset):
    """The rows that `rows_of` makes of CHUNK examples at a time; every pass starts the stream again."""

    def __init__(
        self,
        examples: Iterable[Mapping[str, Any]],
        rows_of: Callable[[list[Mapping[str, Any]]], list[dict[str, Any]]],
    ) -> None:
        super().__init__()
        self.examples, self.rows_of = examples, rows_of

    def __iter__(self) -> Iterator[dict[str, Any]]:
        stream = iter(self.examples)
        while chunk := list(islice(stream, CHUNK)):
            yield from self.rows_of(chunk)


def is_stream(examples: Any) -> bool:
    """Whether `examples` has no length and can be read more than once, as a streamed `datasets` set can."""
    return not hasattr(examples, "__len__") and iter(examples) is not examples
