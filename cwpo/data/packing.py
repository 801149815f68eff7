"""Pairs as packed rows: prompt | chosen | rejected, the prompt once, several pairs to a row.

The rejected response sees the prompt but not the chosen one, both continue the prompt's positions, and no pair sees
another: the log-probs are those of two plain sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROW_TOKENS = (
    64  # pairs are put together into rows of about this many tokens; longer pairs have a row of their own
)


@dataclass(frozen=True)
class Place:
    """Where a pair lies: its row and first column."""

    row: int
    column: int


def fill_rows(lengths: Sequence[int], width: int) -> tuple[list[Place], int]:
    """Longest first, each into the first row with room: places in the given order, and the number of rows."""
    places: list[Place] = [Place(0, 0)] * len(lengths)
    used: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, taken in enumerate(used) if taken + lengths[index] <= width), len(used))
        if row == len(used):
            used.append(0)
        places[index] = Place(row, used[row])
        used[row] += lengths[index]
    return places, len(used)


def pack_pairs(pairs: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Packed rows of pairs that share their prompt (chosen_ids, rejected_ids, chosen_start as encode_pairs gives them).

    Returns packed_ids and position_ids (R, W); attention (R, 1, W, W), True where a query may look; and, for each of the
    M response tokens, `predictor` (its index among the R * W positions), `target` (its id) and `sequence` (which of the
    2 B sequences it belongs to: chosen 0..B-1, then rejected).

    One pair with prompt [1, 7], chosen [5, 9] and rejected [6, 9] becomes packed_ids [[1, 7, 5, 9, 6, 9]], position_ids
    [[0, 1, 2, 3, 2, 3]], predictor [1, 2, 1, 4], target [5, 9, 6, 9], sequence [0, 0, 1, 1].
    """
    lengths = [len(p["chosen_ids"]) + len(p["rejected_ids"]) - p["chosen_start"] for p in pairs]
    width = max(ROW_TOKENS, max(lengths))
    places, rows = fill_rows(lengths, width)
    ids = np.full((rows, width), pad_id, dtype=np.int64)
    positions = np.zeros((rows, width), dtype=np.int64)
    # 0 marks padding; pair i has the blocks 3 i + 1 (prompt), 3 i + 2 (chosen), 3 i + 3 (rejected).
    block = np.zeros((rows, width), dtype=np.int64)
    predictor, target, sequence = [], [], []
    for index, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        start, row, column = pair["chosen_start"], place.row, place.column
        prompt_end = column + start
        ids[row, column:prompt_end] = pair["chosen_ids"][:start]
        positions[row, column:prompt_end] = np.arange(start)
        block[row, column:prompt_end] = 3 * index + 1
        first = prompt_end
        for side, name in enumerate(("chosen_ids", "rejected_ids")):
            response = pair[name][start:]
            last = first + len(response)
            ids[row, first:last] = response
            positions[row, first:last] = start + np.arange(len(response))
            block[row, first:last] = 3 * index + 2 + side
            base = row * width
            predictor.append([base + prompt_end - 1, *range(base + first, base + last - 1)])
            target.append(response)
            sequence.append([index + side * len(pairs)] * len(response))
            first = last
    same_block = block[:, :, None] == block[:, None, :]
    owner = (block - 1) // 3
    prompt_of = (
        (owner[:, :, None] == owner[:, None, :])
        & ((block - 1) % 3 == 0)[:, None, :]
        & (block > 0)[:, None, :]
    )
    # Padding looks at itself, so that no softmax is over nothing.
    causal = np.tril(np.ones((width, width), dtype=bool))
    return {
        "packed_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "attention": torch.from_numpy((same_block | prompt_of) & causal)[:, None],
        "predictor": torch.tensor([i for part in predictor for i in part]),
        "target": torch.tensor([i for part in target for i in part]),
        "sequence": torch.tensor([i for part in sequence for i in part]),
    }
