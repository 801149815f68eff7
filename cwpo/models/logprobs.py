"""Computes log-probs of responses: sums over response tokens, EOS included, never over prompt or padding."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwpo.data.batching import IGNORED, collate_sequences, fill_budget
from cwpo.data.encoding import Encoded
from cwpo.models.heads import Head, logit_chunk, token_losses, without_adapters
from cwpo.models.lengths import exact_parts, in_order, parts_by_length
from cwpo.models.memory import in_batches
from cwpo.models.row_attention import NARROW, Lines, Rows, attend_in_rows
from cwpo.models.side_by_side import threads_of
from cwpo.runtime import label_precision

SCORING = 2  # a scoring batch has this many times the token budget: without gradients it needs far less memory
ROWS = 64  # rows of a batch, or more if they are short, where no argument sets it
FEW = 2048  # tokens that any machine can score at once; smaller batches spend their time on overhead

AMPERE = (8, 0)  # least compute capability of GPUs on which the kernel of Lines runs

Logps = Callable[..., Tensor]  # response_logps, or a function with the same arguments and result


def response_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """Returns log pi(response | prompt), (B,), in nats, float32. Inputs: (B, T); labels are -100 outside responses."""
    targets, logits = response_logits(model, input_ids, attention_mask, labels)
    return -cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none").sum(dim=1)


def response_logits(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns labels, (B, K), and the logits that predict them, (B, K, V), for the last K columns: from the first
    column where any row has a response token. The LM head does not run for earlier columns."""
    columns = (labels != IGNORED).any(dim=0).nonzero()
    first = max(1, int(columns[0])) if len(columns) else 1  # nothing predicts column 0
    keep = input_ids.shape[1] - first + 1
    logits = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=keep).logits
    return labels[:, first:], logits[:, -keep:-1]


def lean_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, head: Head) -> Tensor:
    """Returns the same as response_logps, but runs `head` (see head_of) on response tokens only, in chunks."""
    losses, rows = lean_losses(model, input_ids, attention_mask, labels, head)
    return _sums(losses, rows, len(labels))


def lean_losses(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, head: Head
) -> tuple[Tensor, Tensor]:
    """Returns -log p of all M response tokens, (M,), in nats, and the row number of each, (M,)."""
    inner = without_adapters(model)
    read = {"input_ids": input_ids, "attention_mask": attention_mask}
    hidden = inner.base_model(**read, use_cache=False).last_hidden_state
    predicted = labels[:, 1:] != IGNORED
    states = hidden[:, :-1][predicted].to(_compute_dtype(inner, hidden.device.type))
    losses = token_losses(head, states, labels[:, 1:][predicted], logit_chunk(inner))
    return losses, predicted.nonzero()[:, 0]


def logps_by_length(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, compute: Logps
) -> Tensor:
    """Returns what `compute` returns, called on rows of one length at a time: in some models a long row changes the
    values of shorter rows in its batch."""
    parts = parts_by_length(model, attention_mask, input_ids, labels)
    return in_order([(rows, compute(model, ids, mask, targets)) for rows, mask, ids, targets in parts])


def exact_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """Returns the same as response_logps. If a long row would change the values of shorter rows in its batch, the model
    runs on rows of one length at a time."""
    parts = exact_parts(model, attention_mask, input_ids, labels)
    return in_order([(rows, response_logps(model, ids, mask, targets)) for rows, mask, ids, targets in parts])


def packed_logps(model: nn.Module, batch: Mapping[str, Tensor], head: Head | None = None) -> Tensor:
    """Returns the log-probs of B pairs' responses, (2 B,), in nats: first all chosen, then all rejected ones.

    The arguments are those of packed_losses.
    """
    return _sums(packed_losses(model, batch, head), batch["sequence"], len(batch["lengths"]))


def packed_losses(model: nn.Module, batch: Mapping[str, Tensor], head: Head | None = None) -> Tensor:
    """Returns -log p of all M response tokens in a batch of pack_pairs, (M,), in nats, in the order of batch["target"].

    The `head` (see head_of; default: the LM head) runs, in chunks, only on positions that predict a response token.
    """
    inner = without_adapters(model)
    dtype = _compute_dtype(inner, batch["packed_ids"].device.type)
    states = packed_states(inner, batch, batch["predictor"], dtype).to(dtype)
    return token_losses(head or inner.get_output_embeddings(), states, batch["target"], logit_chunk(inner))


def packed_states(inner: Any, batch: Mapping[str, Any], at: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the last hidden states (M, d) of M tokens in a batch of pack_pairs. `at`, (M,): the tokens' indices in
    flattened batch["packed_ids"]. `dtype`: that of the attention mask."""
    mask, line = _attention(batch, dtype)
    if line or dtype in NARROW:
        attend_in_rows(inner)
    hidden = inner.base_model(
        input_ids=batch["packed_ids"], position_ids=batch["position_ids"], attention_mask=mask, use_cache=False, **line
    ).last_hidden_state
    return hidden.flatten(0, 1)[at]


def _attention(batch: Mapping[str, Any], dtype: torch.dtype) -> tuple[Tensor, dict[str, Any]]:
    """Returns the attention mask for a batch of pack_pairs, and the model's other arguments for its attention.

    The mask is added to attention scores; for Lines it is a single 0 that is not used. The other arguments are {"rows":
    Rows or Lines} if the tokens lie on one line, else {}.
    """
    if "ends" in batch:
        rows: Any = Lines(*(batch[name] for name in ("place", "first", "ends", "most")))
        return torch.zeros(1, 1, 1, 1, dtype=dtype, device=batch["ends"].device), {"rows": rows}
    allowed = batch["attention"]
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    mask.masked_fill_(~allowed, torch.finfo(dtype).min)
    if "slot" not in batch:
        return mask, {}
    return mask, {"rows": Rows(batch["slot"], batch["token"], len(allowed))}


def in_lines(model: nn.Module) -> bool:
    """Whether pack_pairs should get lines=True: on CUDA, in 16 bits, if the GPU has varlen attention."""
    inner = without_adapters(model)
    device = inner.get_output_embeddings().weight.device
    if device.type != "cuda" or _compute_dtype(inner, "cuda") not in NARROW:
        return False
    return torch.cuda.get_device_capability(device) >= AMPERE


def _compute_dtype(inner: Any, device: str) -> torch.dtype:
    """Returns the dtype of matrix products and attention: autocast's dtype if it is on, else the LM head's."""
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return inner.get_output_embeddings().weight.dtype


def _sums(losses: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Returns minus the sum of each sequence's losses, (count,). `sequence`, (M,): the sequence number of each loss."""
    return -torch.zeros(count, device=losses.device).index_add(0, sequence, losses)


def response_lengths(labels: Tensor) -> Tensor:
    """Returns the number of response tokens of each row, EOS included, (B,)."""
    return (labels[:, 1:] != IGNORED).sum(dim=1)


@torch.no_grad()
def score_sequences(
    model: nn.Module,
    rows: Sequence[Encoded],
    pad_id: int,
    batch_size: int | None = None,
    token_budget: int | None = None,
    compute: Logps = exact_logps,
) -> Tensor:
    """Returns the result of `compute`, by default log-probs in nats, for N rows: (N,), float32, without gradients or
    dropout. A row is (token ids, index of the first response token). scoring_batches makes the batches."""
    model.eval()
    device = next(model.parameters()).device
    scores = torch.empty(len(rows))

    def score(chosen: list[int]) -> Tensor:
        batch = collate_sequences([rows[i] for i in chosen], pad_id)
        return compute(model, **{k: v.to(device) for k, v in batch.items()}).cpu()

    batches = scoring_batches([len(ids) for ids, _ in rows], batch_size, token_budget)
    for chosen, values in in_batches(batches, score, threads_of(model)):
        scores[chosen] = values
    return scores


def policy_scores(
    model: nn.Module,
    rows: Sequence[Encoded],
    pad_id: int,
    *,
    reference: nn.Module | None = None,
    beta: float = 1.0,
    token_budget: int | None = None,
) -> Tensor:
    """Returns log pi(y|x) of N rows, each (token ids, response start): (N,), float64, in nats. With `reference`, it
    returns the implicit reward beta log(pi/pi_ref) instead (Eq. 17)."""
    with label_precision(next(model.parameters()).device.type):
        scores = score_sequences(model, rows, pad_id, token_budget=token_budget).double()
        if reference is None:
            return scores
        return beta * (scores - score_sequences(reference, rows, pad_id, token_budget=token_budget).double())


def scoring_batches(
    lengths: Sequence[int], batch_size: int | None = None, token_budget: int | None = None
) -> list[list[int]]:
    """Returns batches of row indices; rows of similar length share a batch.

    A batch has up to SCORING times `token_budget` tokens, padding included. If `token_budget` is None, it has
    `batch_size` rows. If both are None, it has ROWS rows, or as many as fit into FEW tokens if all rows were as long as
    the longest of `lengths`, whichever is more.
    """
    if token_budget is not None:
        return fill_budget(lengths, SCORING * token_budget)
    size = batch_size or max(ROWS, FEW // max(lengths, default=1))
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[first : first + size] for first in range(0, len(order), size)]
