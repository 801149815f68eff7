"""Computes target tokens' log-probs from hidden states: the LM head runs on target positions only, in chunks."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

LOGITS = 2**26  # at most this many logits at a time: 256 MiB in float32
LARGE = 100.0  # hidden states of this size reveal a soft cap on the logits

Head = Callable[[Tensor], Tensor]


def token_losses(head: Head, hidden: Tensor, target: Tensor, chunk: int) -> Tensor:
    """Returns -log p of M target tokens, (M,), in nats, float32; row i of `hidden` (M, d) predicts token i.

    Logits exist for at most `chunk` tokens at a time. With several chunks, the backward pass computes the logits again.
    """
    if len(target) <= chunk:
        return _losses(head, hidden, target)
    parts = zip(hidden.split(chunk), target.split(chunk), strict=True)
    return torch.cat(
        [checkpoint(_losses, head, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    )


def _losses(head: Head, hidden: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(head(hidden).float(), target, reduction="none")


def without_adapters(model: nn.Module) -> Any:
    """Returns the transformers model inside a PEFT model, adapters still in its layers; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def logit_chunk(inner: Any) -> int:
    """Returns how many tokens' logits are computed at a time: LOGITS / vocabulary size, at least 1."""
    return max(1, LOGITS // inner.get_output_embeddings().weight.shape[0])


def head_of(model: nn.Module) -> Head:
    """Returns the last step of the model's own forward pass: the map from last hidden states (M, d) to logits (M, V).

    Most models end with a linear layer. Others cap or scale its output (Gemma 2, Cohere, Granite): for these, the map
    runs the forward pass itself, with given hidden states in place of the backbone's. If that map and the linear
    layer give the same values, the linear layer is returned.
    """
    inner = without_adapters(model)
    linear = inner.get_output_embeddings()
    whole = _after_backbone(inner)
    weight = linear.weight
    hidden = torch.linspace(-LARGE, LARGE, weight.shape[1], dtype=weight.dtype, device=weight.device)[None]
    with torch.no_grad():
        try:
            same = torch.allclose(whole(hidden), linear(hidden))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            same = True  # this forward pass cannot run alone; exact_layout compares whole log-probs
    return linear if same else whole


def _after_backbone(inner: Any) -> Head:
    """Returns the model's forward pass without its backbone, (M, d) -> (M, V); it shares the model's parameters."""
    shell = copy.copy(inner)
    vars(shell).pop("forward", None)  # accelerate's wrapper, which would call the whole model
    shell._modules = inner._modules | {inner.base_model_prefix: _Given()}
    return lambda hidden: shell(inputs_embeds=hidden[None], use_cache=False).logits[0]


class _Given(nn.Module):
    """Stands in for a backbone, and for its `decoder`, which OPT calls: returns inputs_embeds as last hidden states."""

    def forward(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        return _Output(last_hidden_state=inputs_embeds)

    def __getattr__(self, name: str) -> Any:
        return self if name == "decoder" else super().__getattr__(name)


class _Output(BaseModelOutputWithPast):
    """A backbone's output with last hidden states only: any other field (router logits, caches) is None."""

    def __getattr__(self, name: str) -> None:
        return None
