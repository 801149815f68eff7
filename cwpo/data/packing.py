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

ROW_TOKENS = 32  # short pairs share rows of about so many tokens: wider ones waste attention, narrower ones are padding


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
    # Row by row, flat; 0 marks padding; pair i has the blocks 3 i + 1 (prompt), 3 i + 2 (chosen), 3 i + 3 (rejected).
    ids, positions, block = [pad_id] * (rows * width), [0] * (rows * width), [0] * (rows * width)
    predictor: list[int] = []
    target: list[int] = []
    sequence: list[int] = []
    for index, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        start, first = pair["chosen_start"], place.row * width + place.column
        chosen, rejected = pair["chosen_ids"], pair["rejected_ids"][start:]
        n_chosen, n_rejected = len(chosen) - start, len(rejected)
        prompt_end, chosen_end, end = first + start, first + len(chosen), first + lengths[index]
        ids[first:chosen_end], ids[chosen_end:end] = chosen, rejected
        positions[first:chosen_end] = range(len(chosen))
        positions[chosen_end:end] = range(start, start + n_rejected)
        block[first:prompt_end] = [3 * index + 1] * start
        block[prompt_end:chosen_end] = [3 * index + 2] * n_chosen
        block[chosen_end:end] = [3 * index + 3] * n_rejected
        predictor += [*range(prompt_end - 1, chosen_end - 1), prompt_end - 1, *range(chosen_end, end - 1)]
        target += [*chosen[start:], *rejected]
        sequence += [index] * n_chosen + [index + len(pairs)] * n_rejected
    kept = attention_blocks(np.array(block).reshape(rows, width))
    return {
        "packed_ids": torch.tensor(ids).view(rows, width),
        "position_ids": torch.tensor(positions).view(rows, width),
        "attention": torch.from_numpy(kept)[:, None],
        "predictor": torch.tensor(predictor),
        "target": torch.tensor(target),
        "sequence": torch.tensor(sequence),
    }


def attention_blocks(block: np.ndarray) -> np.ndarray:
    """Where each position may look, (R, W, W) bool: into its own block and its pair's prompt, never ahead.

    `block`, (R, W), is as pack_pairs makes it. Padding looks at itself, so that no softmax is over nothing.
    """
    width = block.shape[1]
    owner = (block + 2) // 3 * 3 - 2  # the prompt block of the pair; of padding, one that no position has
    seen = (block[:, :, None] == block[:, None, :]) | (owner[:, :, None] == block[:, None, :])
    return seen & np.tril(np.ones((width, width), dtype=bool))
