"""Packs pairs one after the other, each as prompt | chosen | rejected, with the prompt only once.

The rejected response attends to the prompt but not to the chosen response. The positions of both responses continue
those of the prompt. No pair attends to another. So log-probs are those of two plain sequences. For attention, pairs lie
in rows; short pairs share a row.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch

ROW_TOKENS = 32  # least width of a row: wider rows waste attention on short pairs, narrower ones hold more padding
# Outside attention, tokens stand on one line without padding if rows would be filled less than FULL: moving tokens
# between line and rows costs about as much as 10 % padding. Tokens of rows as wide as WIDE always do: attention in wide
# rows costs more, and takes less time if it starts from a line (BLOCK of cwpo.models.row_attention).
FULL, WIDE = 0.9, 256


def fill_rows(lengths: Sequence[int], width: int) -> tuple[np.ndarray, int]:
    """Puts N sequences of these lengths, longest first, each into the first row of `width` tokens that has room.

    Returns where each sequence begins, (N,), as an index into the rows laid end to end, and the number of rows.
    """
    places = np.zeros(len(lengths), np.int64)
    used: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        most = width - lengths[index]
        row = next((r for r, taken in enumerate(used) if taken <= most), len(used))
        if row == len(used):
            used.append(0)
        places[index] = row * width + used[row]
        used[row] += lengths[index]
    return places, len(used)


def pack_pairs(pairs: Sequence[Mapping[str, Any]], full: float = FULL, lines: bool = False) -> dict[str, Any]:
    """Packs pairs, rows of encode_pairs whose two sequences share the prompt, into one batch.

    B pairs have T tokens (prompts count once), M of them in responses. For attention, pairs lie in R rows of W places.
    attention, (R, 1, W, W): True where a query may attend to a key. packed_ids, position_ids: the tokens' ids and
    positions. They lie in the same rows, (R, W), if W < WIDE and tokens fill at least the share `full` of the places.

    Otherwise they lie on one line without padding, (1, T), and the batch has two more keys. slot, (T,): each token's
    index into the rows laid end to end. token, (R * W,): for each place in the rows, its token's index in the line, 0
    for padding. If the rows hold each prompt twice, once before each response, `slot` points to the first copy.

    predictor, target, sequence, (M,), describe each response token: the index in flattened packed_ids of the token that
    predicts it; its id; the number of its sequence (pair i has the sequences i, chosen, and B + i, rejected). lengths,
    last, (2 B,), describe each sequence: its number of response tokens; its last token's index in flattened packed_ids.

    One pair with prompt [1, 7], chosen [5, 9], rejected [6, 9] becomes packed_ids [[1, 7, 5, 9, 6, 9]], position_ids
    [[0, 1, 2, 3, 2, 3]], predictor [1, 2, 1, 4], target [5, 9, 6, 9], sequence [0, 0, 1, 1], lengths [2, 2] and last
    [3, 5].

    With `lines`, tokens always stand on one line, (1, T), and there are no rows. The attention kernel takes all
    sequences one after the other, in N places: the chosen and the rejected one of pair 0, then of pair 1, and so on,
    each with its own copy of the prompt. Instead of `attention`, the batch has place, (N,): for each place, its token's
    index in the line; first, (T,): each token's first place; ends, (2 B + 1,): 0, then where each sequence ends; most:
    the length of the longest sequence. The pair above has place [0, 1, 2, 3, 0, 1, 4, 5], first [0, 1, 2, 3, 6, 7],
    ends [0, 4, 8] and most 4.
    """
    start = np.array([pair["chosen_start"] for pair in pairs])
    chosen = np.array([len(pair["chosen_ids"]) for pair in pairs])
    whole = chosen + [len(pair["rejected_ids"]) for pair in pairs] - start
    pair = np.repeat(np.arange(len(pairs)), whole)
    within = np.arange(len(pair)) - (whole.cumsum() - whole)[pair]
    is_rejected = within >= chosen[pair]
    of_response = within >= start[pair]
    sizes = _Sizes(start, chosen, whole, pair, within)
    if lines:
        packed, at, shape = _in_lines(sizes), np.arange(len(pair)), (1, len(pair))
    else:
        packed, at, shape = _in_rows(sizes, full)
    ids, positions = np.zeros((2, *shape), np.int64)
    each = (pair["chosen_ids"] + pair["rejected_ids"][pair["chosen_start"] :] for pair in pairs)
    tokens = np.fromiter(chain.from_iterable(each), np.int64, len(pair))
    ids.flat[at] = tokens
    skipped = (chosen - start)[pair]  # tokens of the chosen response, which the rejected one does not see
    positions.flat[at] = within - is_rejected * skipped
    predictor = at - 1 - (within == chosen[pair]) * skipped
    first = whole.cumsum() - whole
    ends = np.concatenate([chosen, np.where(whole > chosen, whole, start)])  # an empty response ends with its prompt
    return packed | {
        "packed_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "predictor": torch.from_numpy(predictor[of_response]),
        "target": torch.from_numpy(tokens[of_response]),
        "sequence": torch.from_numpy((pair + len(pairs) * is_rejected)[of_response]),
        "lengths": torch.from_numpy(np.concatenate([chosen - start, whole - chosen])),
        "last": torch.from_numpy(at[np.tile(first, 2) + ends - 1]),
    }


class _Sizes(NamedTuple):
    """Numbers of tokens of B pairs, (B,): of the prompt, of prompt + chosen response, of prompt + both responses. And,
    for each of all T tokens, its pair and its index within the pair."""

    start: np.ndarray
    chosen: np.ndarray
    whole: np.ndarray
    pair: np.ndarray
    within: np.ndarray


class _Laid(NamedTuple):
    """The T tokens of a batch laid out in rows. Entry i is token number token[i], at index slot[i] into the rows laid
    end to end, in block number block[i] (see attention_blocks). Entries from T on: second copies of prompt tokens."""

    token: np.ndarray
    slot: np.ndarray
    block: np.ndarray
    rows: int
    width: int


def _in_rows(sizes: _Sizes, full: float) -> tuple[dict[str, Any], np.ndarray, tuple[int, int]]:
    """Returns three results: a part of pack_pairs' batch, the tokens' places, and the shape of packed_ids.

    The part holds `attention` and, if packed_ids is one line, `slot` and `token`. The places, (T,), are indices
    into flattened packed_ids. full: as in pack_pairs.
    """
    laid = _shared(sizes)
    if wide := laid.width >= WIDE:
        laid = min(laid, _apart(sizes), key=lambda each: each.rows * each.width**2)  # what attention costs
    shape, count = (laid.rows, laid.width), int(laid.token.max()) + 1
    block, token = np.zeros((2, laid.rows * laid.width), np.int64)
    block[laid.slot], token[laid.slot] = laid.block, laid.token
    packed = {"attention": torch.from_numpy(attention_blocks(block.reshape(shape)))[:, None]}
    if not wide and count >= full * len(block):
        return packed, laid.slot, shape
    slot = torch.from_numpy(laid.slot[:count])
    return packed | {"slot": slot, "token": torch.from_numpy(token)}, np.arange(count), (1, count)


def _shared(sizes: _Sizes) -> _Laid:
    """Lays each pair in one row, as prompt | chosen | rejected."""
    start, chosen, whole, pair, within = sizes
    width = max(ROW_TOKENS, int(whole.max()))
    places, rows = fill_rows(whole.tolist(), width)
    part = (within >= start[pair]).astype(np.int64) + (within >= chosen[pair])
    return _Laid(np.arange(len(pair)), places[pair] + within, 3 * pair + 1 + part, rows, width)


def _apart(sizes: _Sizes) -> _Laid:
    """Lays out the chosen and the rejected sequence of a pair separately, each with its own copy of the prompt.

    Attention costs less than with `_shared` if responses are much longer than prompts.
    """
    token, sequence, position, lengths = _sequences(sizes)
    width = int(lengths.max())
    places, rows = fill_rows(lengths.tolist(), width)
    return _Laid(token, places[sequence] + position, 3 * sequence + 1, rows, width)


def _in_lines(sizes: _Sizes) -> dict[str, Any]:
    """Returns the keys `place`, `first`, `ends` and `most` of pack_pairs' batch with lines=True."""
    token, sequence, position, lengths = _sequences(sizes)
    ends = np.concatenate([[0], lengths.cumsum()])
    slot = ends[sequence] + position
    place = np.empty(len(slot), np.int64)
    place[slot] = token
    arrays = {"place": place, "first": slot[: len(sizes.pair)], "ends": ends.astype(np.int32)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()} | {"most": int(lengths.max())}


def _sequences(sizes: _Sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Divides all pairs into sequences: prompt | chosen, and a second copy of the prompt | rejected.

    Returns one entry per token and then per copied token: its index among the T tokens, the number of its sequence
    (pair i has 2 i, chosen, and 2 i + 1, rejected), and its index in the sequence. The fourth result, (2 B,), holds the
    sequences' lengths.
    """
    start, chosen, whole, pair, within = sizes
    copied = np.flatnonzero(within < start[pair])
    token = np.concatenate([np.arange(len(pair)), copied])
    rejected = within >= chosen[pair]
    sequence = 2 * pair[token] + np.concatenate([rejected, np.ones(len(copied), bool)])
    position = (within - rejected * (chosen - start)[pair])[token]
    return token, sequence, position, np.stack([chosen, start + whole - chosen], axis=1).ravel()


def attention_blocks(block: np.ndarray) -> np.ndarray:
    """Returns a mask (R rows, W queries, W keys), which is True where a query may attend to a key.

    A query attends to its own block and to its pair's prompt, but to no later place. Padding attends to padding, so
    that no softmax is empty. block, (R, W): the block number of each place, 0 for padding. In rows of `_shared`, pair i
    has three blocks: 3 i + 1 (prompt), 3 i + 2 (chosen response), 3 i + 3 (rejected response). In rows of `_apart`, it
    has two: 6 i + 1 (prompt and chosen response), 6 i + 4 (prompt and rejected response).
    """
    width = block.shape[1]
    owner = (block + 2) // 3 * 3 - 2  # block of the pair's prompt; for padding, a number that no block has
    seen = (block[:, :, None] == block[:, None, :]) | (owner[:, :, None] == block[:, None, :])
    return seen & np.tril(np.ones((width, width), dtype=bool))
