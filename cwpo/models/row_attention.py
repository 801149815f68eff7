"""Attention of packed pairs in rows, of a model that computes everything else on one line of tokens without padding."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "cwpo_rows"


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
    rows: Rows | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa attention; of a line of tokens that comes with `rows`, in these, of which the mask (R, 1, W, W) is."""
    if rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    laid = (rows.lay(states) for states in (query, key, value))
    out, _ = sdpa_attention_forward(module, *laid, attention_mask, **kwargs)
    return rows.take(out), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_rows(model: nn.Module) -> None:
    """Let a model that uses sdpa attention take `rows=`. Without them it computes what it did before."""
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
