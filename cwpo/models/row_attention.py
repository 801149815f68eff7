"""Computes attention of packed pairs: their tokens lie on one line, and move to Rows or Lines only for attention."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "cwpo_rows"
NARROW = (torch.bfloat16, torch.float16)
WIDEST, GRAIN = 256, 8  # flash attention computes heads of up to WIDEST numbers, in multiples of GRAIN
LEAST = 16  # size to which heads are padded on CPUs: products of narrower ones take longer (on AMD, with MKL)
BLOCK = 128  # queries at a time on CPUs, whose kernels do not skip later keys: saves a quarter of the time in long rows


@dataclass(frozen=True)
class Rows:
    """A layout of T tokens in `count` rows of equal width W, so in count * W places. `slot` (T,): each token's place,
    its first if it has two. `token` (count * W,): the index, 0 to T - 1, of the token at each place, arbitrary at
    padding, which attends to padding only."""

    slot: Tensor
    token: Tensor
    count: int

    def lay(self, line: Tensor) -> Tensor:
        """Moves T tokens from one line, (1, heads, T, head size), to the rows, (count, heads, W, head size)."""
        laid = line[0].transpose(0, 1).index_select(0, self.token)
        return laid.unflatten(0, (self.count, -1)).transpose(1, 2)

    def take(self, rows: Tensor) -> Tensor:
        """Puts rows (count, W, heads, head size) back on a line (1, T, heads, head size), without padding."""
        return rows.flatten(0, 1).index_select(0, self.slot)[None]


@dataclass(frozen=True)
class Lines:
    """The layout of T tokens in N places: sequence after sequence, each with its own copy of the prompt, no padding.

    `place` (N,): the index, 0 to T - 1, of the token at each place. `first` (T,): each token's first place. `ends`: 0,
    then the number of places up to the end of each sequence. `most`: tokens of the longest sequence.
    """

    place: Tensor
    first: Tensor
    ends: Tensor
    most: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Computes causal attention within each sequence; (1, heads, T, head size) -> (1, T, heads, head size)."""
        device = query.device.type
        if torch.is_autocast_enabled(device):  # rotary positions turn queries and keys of float32 models into float32
            dtype = torch.get_autocast_dtype(device)
            query, key, value = (states.to(dtype) for states in (query, key, value))
        query, key, value = (states[0].transpose(0, 1).index_select(0, self.place) for states in (query, key, value))
        kernel = _by_kernel if query.is_cuda and _fits_kernel(query, key, value) else _by_sequence
        return kernel(query, key, value, self.ends, self.most, scale).index_select(0, self.first)[None]


def _fits_kernel(query: Tensor, key: Tensor, value: Tensor) -> bool:
    narrow = all(states.dtype in NARROW for states in (query, key, value))
    size = query.shape[2]
    alike = key.shape == value.shape and size == key.shape[2]
    return narrow and alike and size <= WIDEST and size % GRAIN == 0


def _by_kernel(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, most: int, scale: float | None) -> Tensor:
    """Runs causal flash attention in each sequence. query, key, value: (N, heads, head size). `ends`, `most`: of Lines."""
    from torch.nn.attention.varlen import varlen_attn

    grouped = query.shape[1] != key.shape[1]
    settings: dict[str, Any] = {"window_size": (-1, 0), "enable_gqa": grouped, "scale": scale}
    attend: Any = varlen_attn
    return attend(query, key, value, ends, ends, most, most, **settings)


def _by_sequence(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, most: int, scale: float | None) -> Tensor:
    """Computes the same as _by_kernel on any device and in any dtype, one sequence at a time."""
    grouped, parts = query.shape[1] != key.shape[1], []
    for begin, end in itertools.pairwise(ends.tolist()):
        q, k, v = (states[begin:end].transpose(0, 1)[None] for states in (query, key, value))
        part = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
        parts.append(part[0].transpose(0, 1))
    return torch.cat(parts)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    rows: Rows | Lines | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes attention in the layout `rows`; rows=None: transformers' sdpa attention on ordinary rows of a batch.

    With a layout, query, key and value hold the tokens of all packed sequences on one line, (1, heads, T, head size).
    Rows lays these out in rows, where the mask `attention_mask` applies. Lines attends within each sequence and ignores
    `attention_mask`.
    """
    if isinstance(rows, Lines):
        return rows.attend(query, key, value, kwargs.get("scaling")), None
    if rows is None:
        return _by_sdpa(module, query, key, value, attention_mask, **kwargs), None
    query, key, value = (rows.lay(states) for states in (query, key, value))
    width = query.shape[2]
    block = BLOCK if query.device.type == "cpu" else width
    parts = [
        _by_sdpa(
            module,
            query[:, :, begin : begin + block],
            key[:, :, : begin + block],
            value[:, :, : begin + block],
            None if attention_mask is None else attention_mask[:, :, begin : begin + block, : begin + block],
            **kwargs,
        )
        for begin in range(0, width, block)
    ]
    return rows.take(torch.cat(parts, dim=1)), None


def _by_sdpa(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> Tensor:
    """Runs transformers' sdpa attention; returns (rows, length, heads, head size).

    On CPUs, 16-bit inputs are computed in float32: the kernel's backward pass in 16 bits takes 10 times as long. Heads
    narrower than LEAST are padded with zeros, which change no value.
    """
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
    wide: list[Any] = [x.float() if x is not None and x.dtype in NARROW else x for x in (query, key, value, mask)]
    size = value.shape[3]
    if max(size, query.shape[3]) < LEAST:
        kwargs["scaling"] = kwargs.get("scaling") or query.shape[3] ** -0.5
        wide[:3] = [pad(x, (0, LEAST - x.shape[3])) for x in wide[:3]]
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, *wide, **kwargs)[0][..., :size].to(value.dtype)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_rows(model: nn.Module) -> None:
    """Makes a model with sdpa attention call `attend`, so that it accepts `rows`. Calls without `rows` use it too."""
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
