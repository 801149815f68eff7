"""Computes an annotator's scores of packed pairs: both responses of a pair share one prompt (cwpo.data.packing)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cwpo.data.batching import PairCollator, collate_sequences
from cwpo.data.packing import pack_pairs
from cwpo.models.annotator import last_states, score_responses, scores_of
from cwpo.models.logprobs import packed_states
from cwpo.models.packed import (
    FAILURES,
    LINE,
    extremes,
    probing,
    score_packed,
    score_sides,
    sequences_of,
    share_prompts,
    tensors,
)
from cwpo.runtime import label_precision

TOLERANCE = 1e-3  # of hidden states: float32 rounding changes them far less, another position or window far more


def pair_scores(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    """Returns scores of the chosen, then of the rejected responses in a batch of pack_pairs, (2 B,), in logits."""
    return scores_of(model, _states(model, batch))


def _states(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    device = batch["packed_ids"].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
    return packed_states(model, batch, batch["last"], dtype)


@torch.no_grad()
def reads_packed(model: PreTrainedModel, pairs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a sequence's last token has the same hidden state in a packed batch as in the sequence alone.

    Tries the longest and the shortest of `pairs`, rows of encode_pairs (see `packed.extremes`). False without pairs,
    or if the chosen and the rejected sequence of any pair begin with different prompts.
    """
    if not pairs or not share_prompts(pairs):
        return False
    sample = extremes(pairs, len(model.get_input_embeddings().weight))
    device = next(model.parameters()).device
    with probing(model):
        try:
            packed = _states(model, tensors(pack_pairs(sample, full=LINE), device))
        except FAILURES:
            return False
        batches = [tensors(collate_sequences([sequence], 0), device) for sequence in sequences_of(sample)]
        alone = [last_states(model, batch["input_ids"], batch["attention_mask"]) for batch in batches]
    return torch.allclose(packed.float(), torch.cat(alone).float(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def score_gaps(
    model: PreTrainedModel, pairs: Sequence[Mapping[str, Any]], pad_id: int, batch_size: int, token_budget: int | None
) -> Tensor:
    """Returns score(chosen) - score(rejected) of rows of encode_pairs: (N,), float64, in logits, without dropout.

    Pairs are packed if there is a token budget and the scores stay the same (see reads_packed).
    """
    if token_budget is not None and reads_packed(model, pairs):
        with label_precision(model.device.type):
            sides = score_packed(model, pairs, PairCollator(pad_id, packed=True), pair_scores, token_budget)
    else:
        sides = score_sides(pairs, lambda rows: score_responses(model, rows, pad_id, batch_size, token_budget))
    chosen, rejected = (side.double() for side in sides)
    return chosen - rejected
