"""Sequence log-probs of packed pairs: one forward pass over prompt | chosen | rejected, pair after pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from cwpo.data.batching import PairCollator, collate_sequences
from cwpo.data.packing import pack_pairs
from cwpo.models.logprobs import response_logps, score_sequences, scoring_batches
from cwpo.models.row_attention import Rows, attend_in_rows

LOGITS = 2**26  # at most so many logits at a time: 256 MiB in float32
LINE = 2.0  # rows are never so full: what takes a line takes rows too
TOLERANCE = 1e-4  # relative, in float32; a model that ignores the mask is off by far more


def packed_logps(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Log-probs of the chosen, then of the rejected responses, shape (2 B,), in nats; `batch` comes from pack_pairs.

    The LM head runs on the positions that predict a response token only, in chunks.
    """
    inner, backbone, head = _parts(model)
    allowed = batch["attention"]
    kind = allowed.device.type
    autocast = torch.is_autocast_enabled(kind)  # the mask must be of the dtype that attention is computed in
    dtype = torch.get_autocast_dtype(kind) if autocast else next(head.parameters()).dtype
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )
    line = {}
    if "slot" in batch:
        attend_in_rows(inner)
        line["rows"] = Rows(batch["slot"], batch["token"], len(allowed))
    hidden = backbone(
        input_ids=batch["packed_ids"],
        position_ids=batch["position_ids"],
        attention_mask=mask,
        use_cache=False,
        **line,
    ).last_hidden_state
    losses = token_losses(head, hidden.flatten(0, 1)[batch["predictor"]], batch["target"])
    count = int(batch["sequence"].max()) + 1
    return -torch.zeros(count, device=losses.device).index_add(0, batch["sequence"], losses)


def token_losses(head: nn.Module, hidden: Tensor, target: Tensor, chunk: int | None = None) -> Tensor:
    """-log p of each of M target tokens from the hidden states (M, d) that predict them, in nats.

    At most `chunk` tokens' logits exist at a time (default: LOGITS of them in all): those of several chunks are computed
    again in the backward pass.
    """
    chunk = chunk or max(1, LOGITS // next(head.parameters()).shape[0])
    if len(target) <= chunk:
        return _losses(head, hidden, target)
    parts = zip(hidden.split(chunk), target.split(chunk), strict=True)
    return torch.cat(
        [checkpoint(_losses, head, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    )


def _losses(head: nn.Module, hidden: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(head(hidden).float(), target, reduction="none")


@torch.no_grad()
def score_pairs(
    model: nn.Module, rows: Sequence[Mapping[str, Any]], pad_id: int, token_budget: int | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probs of the chosen and of the rejected responses of encode_pairs' rows, each (N,), dropout off.

    Prompts are computed once for both responses where the model allows it.
    """
    if not can_pack(model, rows, pad_id):
        sides = (
            [(row[f"{side}_ids"], row[f"{side}_start"]) for row in rows] for side in ("chosen", "rejected")
        )
        chosen, rejected = (score_sequences(model, part, pad_id, token_budget=token_budget) for part in sides)
        return chosen, rejected
    model.eval()
    device = next(model.parameters()).device
    scores = torch.empty(2, len(rows))
    collator = PairCollator(pad_id, packed=True)
    lengths = [collator.tokens(row) for row in rows]
    for part in scoring_batches(lengths, token_budget=token_budget):
        batch = collator([rows[i] for i in part])
        logps = packed_logps(model, {k: v.to(device) for k, v in batch.items() if isinstance(v, Tensor)})
        scores[:, part] = logps.view(2, -1).cpu()
    return scores[0], scores[1]


@torch.no_grad()
def can_pack(model: nn.Module, pairs: Sequence[Mapping[str, Any]], pad_id: int) -> bool:
    """Whether the model's packed log-probs of a few pairs equal those of plain sequences.

    False for pairs that do not share their prompts' tokens or have none, and for models that cannot take such a mask, or
    whose logits are more than head(last hidden state).
    """
    if any(p["chosen_start"] == 0 for p in pairs):
        return False
    if any(p["chosen_ids"][: p["chosen_start"]] != p["rejected_ids"][: p["rejected_start"]] for p in pairs):
        return False
    sample = list(pairs[:2])
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, enabled=False):  # bfloat16 would blur the difference
            packed = packed_logps(model, {k: v.to(device) for k, v in pack_pairs(sample, full=LINE).items()})
            rows = [(p[f"{side}_ids"], p[f"{side}_start"]) for side in ("chosen", "rejected") for p in sample]
            plain = response_logps(
                model, **{k: v.to(device) for k, v in collate_sequences(rows, pad_id).items()}
            )
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    return bool(torch.allclose(packed, plain, rtol=TOLERANCE, atol=TOLERANCE))


def _parts(model: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The model without PEFT adapters' wrapping, its backbone that gives hidden states, and its LM head."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner, inner.base_model, inner.get_output_embeddings()
