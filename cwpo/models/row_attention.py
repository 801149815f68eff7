"""Attention of packed pairs in rows or lines, of a model that computes everything else on one line of tokens without padding."""

import inspect
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "cwpo_rows"
NARROW = (torch.bfloat16, torch.float16)
WIDEST = 256  # of the heads that flash attention computes
BLOCK = 128  # queries at a time on CPUs, whose kernels do not skip the keys ahead of them: a quarter of the time of long rows


@dataclass(frozen=True)
class Rows:
    """How T tokens lie in R rows of W columns: `slot` (T,), each token's place among the R * W; `token` (R * W,), the token
    at each place, any one where there is padding."""

    slot: Tensor
    token: Tensor
    count: int

    def lay(self, line: Tensor) -> Tensor:
        """(1, H, T, d) as rows (R, H, W, d)."""
        laid = _Moved.apply(line[0].transpose(0, 1), self.token, self.slot)
        return laid.unflatten(0, (self.count, -1)).transpose(1, 2)

    def take(self, rows: Tensor) -> Tensor:
        """Rows (R, W, H, d) as (1, T, H, d)."""
        return _Moved.apply(rows.flatten(0, 1), self.slot, self.token)[None]


@dataclass(frozen=True)
class Lines:
    """How T tokens are attended to in sequences of many lengths, see `lines` of cwpo.data.packing.pack_pairs."""

    place: Tensor
    first: Tensor
    ends: Tensor
    most: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Causal attention of (1, H, T, d) within each sequence, as (1, T, H, d)."""
        query, key, value = (states[0].transpose(0, 1).index_select(0, self.place) for states in (query, key, value))
        narrow = all(states.dtype in NARROW and states.shape[2] <= WIDEST for states in (query, key, value))
        alike = key.shape == value.shape and query.shape[2] == key.shape[2]
        kernel = _by_kernel if query.is_cuda and narrow and alike else _by_sequence
        return kernel(query, key, value, self.ends, self.most, scale).index_select(0, self.first)[None]


def _by_kernel(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, most: int, scale: float | None) -> Tensor:
    """Flash attention of (N, H, d), no padding and nothing to compile; its arguments differ from version to version."""
    from torch.nn.attention.varlen import varlen_attn

    takes = inspect.signature(varlen_attn).parameters
    settings: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in takes else {"is_causal": True}
    groups = query.shape[1] // key.shape[1]
    if "enable_gqa" in takes:
        settings["enable_gqa"] = groups > 1
    elif groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    if "scale" in takes:
        settings["scale"] = scale
    elif scale is not None:
        query = query * (scale * query.shape[2] ** 0.5)
    attend: Any = varlen_attn
    return attend(query, key, value, ends, ends, most, most, **settings)


def _by_sequence(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, most: int, scale: float | None) -> Tensor:
    """The same, one sequence at a time."""
    grouped, parts = query.shape[1] != key.shape[1], []
    for begin, end in itertools.pairwise(ends.tolist()):
        q, k, v = (states[begin:end].transpose(0, 1)[None] for states in (query, key, value))
        part = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
        parts.append(part[0].transpose(0, 1))
    return torch.cat(parts)


class _Moved(torch.autograd.Function):
    """x[there], whose gradient is gradient[back]: adding up what no two places share would be far slower.

    Padding gets the gradient of some token, which reaches nothing: padding attends to padding only, and is not taken.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient.index_select(0, ctx.back), None, None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    rows: Rows | Lines | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa attention. With `rows`, a line of tokens is first laid out in rows, for which the mask (R, 1, W, W) is."""
    if isinstance(rows, Lines):
        return rows.attend(query, key, value, kwargs.get("scaling")), None
    if rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    query, key, value = (rows.lay(states) for states in (query, key, value))
    width = query.shape[2]
    block = BLOCK if query.device.type == "cpu" else width
    parts = [
        sdpa_attention_forward(
            module,
            query[:, :, begin : begin + block],
            key[:, :, : begin + block],
            value[:, :, : begin + block],
            None if attention_mask is None else attention_mask[:, :, begin : begin + block, : begin + block],
            **kwargs,
        )[0]
        for begin in range(0, width, block)
    ]
    return rows.take(torch.cat(parts, dim=1)), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_rows(model: nn.Module) -> None:
    """Let a model that uses sdpa attention take `rows=`. Without them it computes what it did before."""
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
