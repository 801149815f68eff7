"""Finds models in which a long row changes values of shorter rows in its batch, and runs them one length at a time.

Once a batch's longest row exceeds the original context, dynamic RoPE and LongRoPE compute frequencies from that row's
length, so the values of shorter rows change. Dynamic RoPE keeps these frequencies until a batch of short rows comes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cwpo.errors import InputError

FROM_LONGEST = ("dynamic", "longrope")  # RoPE types whose frequencies transformers computes in the forward pass
ONE_LENGTH = (
    "{name} must compute these rows one length at a time, because its positions depend on the longest row of a batch; several "
    "processes or GPUs cannot do that: train in one process, or leave out the rows that are longer than its original context"
)


def mixing_length(config: Any) -> int | None:
    """Returns the length, in tokens, from which a row may change values of shorter rows in its batch; None if never."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, Mapping))]  # some have one for each layer type
    scaled = [part for part in parts if part.get("rope_type") in FROM_LONGEST]
    positions = text.max_position_embeddings if scaled else 0
    original = (part.get("original_max_position_embeddings", positions) for part in scaled)
    return min((min(positions, each) for each in original), default=None)


def mixes_lengths(config: Any, longest: int) -> bool:
    """Whether a batch whose longest row has `longest` tokens must be split into parts whose rows have equal length."""
    least = mixing_length(config)
    return least is not None and longest >= least


def exact_parts(model: nn.Module, attention_mask: Tensor, *columns: Tensor) -> Iterator[list[Tensor]]:
    """Splits the rows of a batch into parts in which padding changes no value. `columns`: right-padded tensors, (B, T).

    Yields [row numbers, attention mask, *columns] of each part; for most models one part has all rows. Raises
    InputError if a model wrapped by DDP or FSDP may need several parts.
    """
    config = getattr(model, "module", model).config
    if not mixes_lengths(config, attention_mask.shape[1]):
        yield [torch.arange(len(attention_mask), device=attention_mask.device), attention_mask, *columns]
        return
    if is_wrapped(model):
        raise InputError(ONE_LENGTH.format(name=type(getattr(model, "module", model)).__name__))
    yield from parts_by_length(model, attention_mask, *columns)


def is_wrapped(model: nn.Module) -> bool:
    """Whether the model is wrapped by DDP or FSDP."""
    return hasattr(model, "module") or hasattr(model, "reshard")


def parts_by_length(model: nn.Module, attention_mask: Tensor, *columns: Tensor) -> Iterator[list[Tensor]]:
    """Splits the rows of a batch into one part for each row length, shortest first; yields lists as exact_parts does.

    Before the first part it calls forget_lengths.
    """
    lengths = attention_mask.sum(dim=1)
    forget_lengths(model)
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        yield [rows, *(column[rows, :length] for column in (attention_mask, *columns))]


def in_order(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Joins the values of parts, each (row numbers, values), into one tensor in the order of the row numbers."""
    if len(parts) == 1:
        return parts[0][1]
    rows, values = zip(*parts, strict=True)
    return torch.cat(values)[torch.cat(rows).argsort()]


@torch.no_grad()
def forget_lengths(model: nn.Module) -> None:
    """Runs the model on one token, so that dynamic RoPE drops the scaling kept from longer inputs."""
    one = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    model(input_ids=one, attention_mask=one + 1)
