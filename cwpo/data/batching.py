"""Turns token sequences into padded batches.

No sequence is cut here: pairs that are too long were dropped, and counted, when the pairs were prepared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from cwpo.data.encoding import encode as encode
from cwpo.data.encoding import encode_pairs as encode_pairs
from cwpo.data.encoding import encode_prompts as encode_prompts
from cwpo.data.packing import pack_pairs

IGNORED = -100
AUTO = "auto"
BEGIN = {"cpu": 2_048, "gpu": 8_192}  # the budgets, in tokens, that AUTO starts with; a GPU then measures its own


def pad(rows: Sequence[Sequence[int]], value: int, side: str = "right") -> torch.Tensor:
    """Returns an int64 tensor (number of rows, longest row): shorter rows are padded with `value` on the `side`."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    columns = np.arange(lengths.max())
    if side == "left":
        columns = columns[::-1]
    filled = columns < lengths[:, None]
    table = np.full(filled.shape, value, np.int64)
    table[filled] = np.fromiter(chain.from_iterable(rows), np.int64, lengths.sum())
    return torch.from_numpy(table)


def collate_sequences(rows: Sequence[tuple[Sequence[int], int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Returns `input_ids`, `attention_mask` and `labels`, each (number of rows, longest row), padded on the right.

    Rows are (token ids, prompt length). Labels of prompt and padding are IGNORED. Two rows ([1, 2, 9], 1) and
    ([1, 5, 6, 9], 2) with pad_id 0 give input_ids [[1, 2, 9, 0], [1, 5, 6, 9]],
    attention_mask [[1, 1, 1, 0], [1, 1, 1, 1]], labels [[-100, 2, 9, -100], [-100, -100, 6, 9]].
    """
    return {
        "input_ids": pad([ids for ids, _ in rows], pad_id),
        "attention_mask": pad([[1] * len(ids) for ids, _ in rows], 0),
        "labels": pad([[IGNORED] * start + list(ids[start:]) for ids, start in rows], IGNORED),
    }


def fill_budget(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups row indices into batches, longest row first.

    A batch has at most `budget` tokens with padding, or one row. Lengths [3, 9, 8, 2], budget 18: [[1, 2], [0, 3]].
    """
    batches: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * widest > budget:
            batches.append([])
            widest = max(1, lengths[index])
        batches[-1].append(index)
    return batches


@dataclass
class Budget:
    """The number of tokens that training computes at once. It may change at any step, since no result depends on it.

    measured: with token_budget=auto, True until the second step has set `tokens` from the memory that it takes.
    """

    tokens: int
    measured: bool = False

    @staticmethod
    def of(setting: int | str | None, device: str) -> "Budget | None":
        """Returns the Budget for a setting: a number of tokens, or "auto". None (no limit) gives None."""
        tokens = tokens_at_once(setting, device)
        return None if tokens is None else Budget(tokens, measured=setting == AUTO)


def tokens_at_once(setting: int | str | None, device: str) -> int | None:
    """Returns `setting` (token_budget) in tokens: "auto" becomes the device's BEGIN, None (no limit) stays None."""
    if setting == AUTO:
        return BEGIN["cpu" if device == "cpu" else "gpu"]
    return None if setting is None else int(setting)


@dataclass(frozen=True)
class Whole:
    """The rows of a batch, kept so that the batch can be split again.

    parts(budget) splits the rows with fill_budget and returns the collated parts.
    """

    rows: Sequence[Mapping[str, Any]]
    collator: "SequenceCollator | PairCollator"

    def parts(self, budget: int) -> list[dict[str, Any]]:
        split = fill_budget([self.collator.tokens(row) for row in self.rows], budget)
        return [self.collator([self.rows[i] for i in part]) for part in split]


@dataclass(frozen=True)
class MicroBatches:
    """Collates a batch into micro-batches within the token budget. Their gradients add up to that of the batch.

    Returns {"micro": [micro-batch, ...], "whole": Whole of the batch}.
    """

    collator: "SequenceCollator | PairCollator"
    budget: Budget

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        whole = Whole(rows, self.collator)
        return {"micro": whole.parts(self.budget.tokens), "whole": whole}


def within_budget(
    collator: "SequenceCollator | PairCollator", budget: Budget | None
) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """Returns the collator itself if `budget` is None, else a MicroBatches collator, which keeps to the budget."""
    return collator if budget is None else MicroBatches(collator, budget)


@dataclass(frozen=True)
class SequenceCollator:
    """Collates rows {"ids": token ids, "start": prompt length} for a loss on the response tokens only.

    Returns the batch of collate_sequences. If `packed`, it returns pack_pairs(pairs, lines=lines) instead, where each
    row is a pair with an empty rejected response. If rows have a `pair_id`, the batch also has the list of these ids.
    """

    pad_id: int
    packed: bool = False
    lines: bool = False

    def tokens(self, row: Mapping[str, Any]) -> int:
        """Returns the number of tokens that the model computes for a row."""
        return len(row["ids"])

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.packed:
            return pack_pairs(list(map(alone, rows)), lines=self.lines) | _beside(rows)
        return collate_sequences([(row["ids"], row["start"]) for row in rows], self.pad_id) | _beside(rows)


def alone(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turns a row for SequenceCollator into a pair: its sequence is the chosen one, the rejected response is empty."""
    ids, start = row["ids"], row["start"]
    return {"chosen_ids": ids, "chosen_start": start, "rejected_ids": ids[:start], "rejected_start": start}


@dataclass(frozen=True)
class PairCollator:
    """Collates B pairs to 2 B sequences: sequence i is the chosen one of pair i, sequence B + i its rejected one.

    Rows hold chosen_ids, chosen_start, rejected_ids, rejected_start and the numbers named in `floats`, which become
    float32 tensors, (B,). With `packed`, the batch is pack_pairs(rows, lines=lines) instead of padded sequences. If
    rows have a `pair_id`, the batch has the list of these ids, so that errors can name the pairs.
    """

    pad_id: int
    floats: tuple[str, ...] = ()
    packed: bool = False
    lines: bool = False

    def tokens(self, row: Mapping[str, Any]) -> int:
        """Returns the number of tokens that the model computes for a pair that is alone in its batch."""
        chosen, rejected = len(row["chosen_ids"]), len(row["rejected_ids"])
        return chosen + rejected - row["chosen_start"] if self.packed else 2 * max(chosen, rejected)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.packed:
            return pack_pairs(rows, lines=self.lines) | _beside(rows, self.floats)
        sequences = [(row["chosen_ids"], row["chosen_start"]) for row in rows]
        sequences += [(row["rejected_ids"], row["rejected_start"]) for row in rows]
        return collate_sequences(sequences, self.pad_id) | _beside(rows, self.floats)


def _beside(rows: Sequence[Mapping[str, Any]], floats: Sequence[str] = ()) -> dict[str, Any]:
    numbers = {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in floats}
    return numbers | ({"pair_id": [row["pair_id"] for row in rows]} if "pair_id" in rows[0] else {})


def named(rows: list[dict[str, Any]], pair_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Adds to each row its `pair_id`, in place, and returns the rows."""
    for row, pair_id in zip(rows, pair_ids, strict=True):
        row["pair_id"] = pair_id
    return rows
