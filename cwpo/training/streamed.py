"""Rows of data sets that are read as a stream, while training goes on."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset
from transformers import TrainingArguments

CHUNK = 256  # examples tokenised, and scored by the reference, at a time


class StreamedRows(IterableDataset):
    """The rows of CHUNK examples at a time, as `rows_of` gives them; every pass starts the stream again."""

    def __init__(
        self, examples: Iterable[Mapping[str, Any]], rows_of: Callable[[list[Mapping[str, Any]]], list[dict[str, Any]]]
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


def read_here(args: TrainingArguments) -> None:
    """Have the training process itself read a stream: loader workers would each read all of it, and score with copies."""
    if args.dataloader_num_workers:
        warnings.warn(
            f"dataloader_num_workers={args.dataloader_num_workers}: a stream is read, tokenised and scored by the reference in the "
            "training process, so that each pair comes once a pass; using 0 workers",
            stacklevel=3,
        )
    args.accelerator_config.dispatch_batches = False  # of several processes, each takes its share of the rows itself
    args.dataloader_num_workers = 0
    args.dataloader_prefetch_factor = None
    args.dataloader_persistent_workers = False
