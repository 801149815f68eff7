"""Sequence log-probabilities: sums over response tokens, EOS included, never over prompt or padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwpo.data.batching import IGNORED, collate_sequences, fill_budget

SCORING = 2  # without gradients a batch needs far less memory
ROWS = 64  # of sequences of any length
FEW = 2048  # tokens that any machine can score at once; batches of fewer spend their time on being started


def response_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """log pi(response given prompt), shape (B,), in nats, float32. Inputs are (B, T); labels are IGNORED off the response."""
    targets, logits = response_logits(model, input_ids, attention_mask, labels)
    losses = cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    return -losses.sum(dim=1)


def response_logits(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Targets (B, K) and the logits (B, K, V) that predict them, from the batch's first response token on.

    The head is not run on the columns before it, where every row still is in its prompt.
    """
    columns = (labels != IGNORED).any(dim=0).nonzero()
    first = max(1, int(columns[0])) if len(columns) else 1  # nothing predicts column 0
    keep = input_ids.shape[1] - first + 1
    logits = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=keep).logits
    return labels[:, first:], logits[:, -keep:-1]


def response_lengths(labels: Tensor) -> Tensor:
    """Response tokens of each row, EOS included, shape (B,)."""
    return (labels[:, 1:] != IGNORED).sum(dim=1)


@torch.no_grad()
def score_sequences(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], int]],
    pad_id: int,
    batch_size: int | None = None,
    token_budget: int | None = None,
) -> Tensor:
    """response_logps of (ids, start) rows without gradients, in the given order, dropout off; shape (N,)."""
    model.eval()
    device = next(model.parameters()).device
    scores = torch.empty(len(rows))
    for chosen in scoring_batches([len(ids) for ids, _ in rows], batch_size, token_budget):
        batch = collate_sequences([rows[i] for i in chosen], pad_id)
        scores[chosen] = response_logps(model, **{k: v.to(device) for k, v in batch.items()}).cpu()
    return scores


def scoring_batches(
    lengths: Sequence[int], batch_size: int | None = None, token_budget: int | None = None
) -> list[list[int]]:
    """Indices in batches of like length: of SCORING times the tokens that training may hold at once, else of `batch_size`.

    With neither they are of ROWS, and of more where all are short.
    """
    if token_budget is not None:
        return fill_budget(lengths, SCORING * token_budget)
    size = batch_size or max(ROWS, FEW // max(lengths, default=1))
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[first : first + size] for first in range(0, len(order), size)]
