"""Checks and tokenises users' preference pairs, from a list or a stream, and scores them with the reference."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from numbers import Real
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from cwpo.data.batching import encode_pairs, named
from cwpo.data.dialogues import as_messages, encodes
from cwpo.errors import InputError
from cwpo.models.limits import pair_problems

COLUMNS = ("prompt", "chosen", "rejected")
REFERENCE = ("chosen_logp", "rejected_logp")
LEAST = float(np.finfo(float).min)
CHUNK = 256  # examples tokenised, and scored by the reference, at a time

Examples = Sequence[Mapping[str, Any]]


class Reference:
    """The reference of a policy in training: a copy of the initial trainable weights, swapped in while it is needed.

    For a model with adapters only the adapters are copied, so that policy and reference share one base.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Makes the model compute as the reference inside the `with` block, in which no gradients may be taken."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, (parameter, other) in enumerate(self._kept):
            self._kept[index] = (parameter, parameter.data)
            parameter.data = other.to(parameter.device, parameter.dtype)


class Rows(list[dict[str, Any]]):
    """A list of tokenised rows that serves as a trainer's data set; users read them as train_dataset.rows."""

    @property
    def rows(self) -> "Rows":
        return self


def examples_of(dataset: Iterable[Mapping[str, Any]]) -> Any:
    """Returns the data set with Python values in its rows: a `datasets` set loses its format (torch, numpy, ...)."""
    return dataset.with_format(None) if hasattr(dataset, "with_format") else dataset


def encoded_rows(
    tokenizer: PreTrainedTokenizerBase,
    config: Any,
    examples: Examples,
    weight_column: str = "weight",
    streamed: bool = False,
) -> list[dict[str, Any]]:
    """Returns each example as a tokenised row, with REFERENCE columns if any example has them. `config`: the model's.

    Raises InputError if there are no examples, if columns are missing, or if values are wrong (the message shows the
    first row of each kind). Raises it also if all weights are 0, unless the examples are part of a stream (`streamed`).
    """
    if not examples:
        raise InputError("the data has no pairs")
    if strange := [row for row in examples if not isinstance(row, Mapping)]:
        raise InputError(
            f"the data gives {str(strange[0])[:80]!r} where a row, a dict with {', '.join(COLUMNS)}, is expected; "
            "hand in table.to_dict('records') for a pandas table, one split of a DatasetDict, or the rows of a file"
        )
    missing = [name for name in (*COLUMNS, weight_column) if any(name not in row for row in examples)]
    if missing:
        raise InputError(
            f"the data lacks the column {', '.join(missing)}; it has {', '.join(map(str, examples[0]))}. "
            "Weights are never assumed: add a column of ones for unweighted training"
        )
    weights = _numbers(examples, weight_column, low=0.0)
    if not (streamed or any(weights)):
        raise InputError(
            f"column {weight_column}: all {len(weights)} weights are 0, so nothing would be learned from any pair"
        )
    if problems := [problem for name in COLUMNS if (problem := _text_problem(examples, name))]:
        raise InputError(problems)
    if problems := [problem for name in COLUMNS[1:] if (problem := _turn_problem(examples, name))]:
        raise InputError(problems)
    rows = encode_pairs(tokenizer, *([row[name] for row in examples] for name in COLUMNS), weight=weights)
    for row in rows:  # the samplers of transformers that group rows by length read it
        row["input_ids"] = max(row["chosen_ids"], row["rejected_ids"], key=len)
    if problems := pair_problems(rows, tokenizer, config):
        raise InputError(problems)
    if any(name in row for row in examples for name in REFERENCE):
        enter_reference(rows, *(_numbers(examples, name) for name in REFERENCE))
    return named(rows, [str(row.get("pair_id", f"row {i}")) for i, row in enumerate(examples)])


def lack_reference(rows: Examples) -> bool:
    return any(name not in row for row in rows for name in REFERENCE)


def enter_reference(rows: Any, *columns: Sequence[float]) -> None:
    """Writes the reference's log-probs, of chosen and of rejected responses, into the columns REFERENCE of `rows`."""
    for name, values in zip(REFERENCE, columns, strict=True):
        for row, value in zip(rows, values, strict=True):
            row[name] = value


def _text_problem(examples: Examples, name: str) -> str | None:
    """Returns a message if values of the column `name` are neither text nor messages, else None."""
    bad = [i for i, row in enumerate(examples) if not _is_text(row[name])]
    if not bad:
        return None
    return (
        f"column {name}: {len(bad)} of {len(examples)} values are neither text nor a list of messages with role and content; row "
        f"{bad[0]} has {examples[bad[0]][name]!r}"
    )


def _turn_problem(examples: Examples, name: str) -> str | None:
    """Returns a message if messages in the column `name` of responses do not answer their prompt, else None."""
    said = [(i, row["prompt"], messages) for i, row in enumerate(examples) if (messages := as_messages(row[name]))]
    others = [(i, messages[0]["role"]) for i, _, messages in said if messages[0]["role"] != "assistant"]
    bare = [i for i, prompt, _ in said if isinstance(prompt, str)]
    if others:
        row, role = others[0]
        return (
            f"column {name}: {len(others)} of {len(examples)} responses do not begin with a message of role assistant; row {row} begins "
            f"with role {role}: hand in only the messages that follow the prompt"
        )
    if bare:
        return (
            f"column {name}: {len(bare)} of {len(examples)} responses are messages although their prompts are text, as in row {bare[0]}; "
            'hand in these prompts as messages too, [{"role": "user", "content": ...}]'
        )
    return None


def _is_text(value: Any) -> bool:
    return encodes(value) if isinstance(value, str) else as_messages(value) is not None


def _numbers(examples: Examples, name: str, low: float = float("-inf")) -> list[float]:
    values = [_plain(row.get(name)) for row in examples]
    right = [isinstance(value, Real) and max(low, LEAST) <= float(value) < float("inf") for value in values]
    if not all(right):
        bad = [i for i, fits in enumerate(right) if not fits]
        bound = "finite numbers" if low == float("-inf") else f"finite numbers, at least {low:g}"
        raise InputError(
            f"column {name}: {len(bad)} of {len(examples)} values are not {bound}; row {bad[0]} has {values[bad[0]]!r}"
        )
    return [float(value) for value in values]


def _plain(value: Any) -> Any:
    """Returns the number in a tensor or array without dimensions, and any other value as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


class StreamedRows(IterableDataset):
    """Yields the rows that `rows_of` makes from CHUNK examples at a time. Each pass starts the stream again."""

    def __init__(
        self, examples: Iterable[Mapping[str, Any]], rows_of: Callable[[list[Mapping[str, Any]]], list[dict[str, Any]]]
    ) -> None:
        super().__init__()
        self.examples, self.rows_of = examples, rows_of

    def set_epoch(self, epoch: int) -> None:
        """Lets a shuffled stream take another order; accelerate calls it before each pass."""
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        stream = iter(self.examples)
        for first in count(step=CHUNK):
            if not (chunk := list(islice(stream, CHUNK))):
                return
            try:
                rows = self.rows_of(chunk)
            except InputError as error:
                where = f"examples {first} to {first + len(chunk) - 1} of the stream, counted from row 0"
                raise InputError([f"{where}: {problem}" for problem in error.problems]) from error
            yield from rows


def is_stream(examples: Any) -> bool:
    """Whether `examples` has no length and can be read more than once, as a streamed `datasets` set can."""
    return not hasattr(examples, "__len__") and iter(examples) is not examples


def read_here(args: TrainingArguments) -> None:
    """Makes the training process read a stream: turns off loader workers, each of which would read and score it all."""
    if args.dataloader_num_workers:
        warnings.warn(
            f"dataloader_num_workers={args.dataloader_num_workers}: a stream is read, tokenised and scored by the reference in the "
            "training process, so that each pair comes once a pass; using 0 workers",
            stacklevel=3,
        )
    args.accelerator_config.dispatch_batches = False  # each of several processes takes its own share of the rows
    args.dataloader_num_workers = 0
    args.dataloader_prefetch_factor = None
    args.dataloader_persistent_workers = False
