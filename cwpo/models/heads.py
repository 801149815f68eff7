"""From hidden states to log-probs of target tokens: the LM head on those positions only, a bounded number of logits at a time."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

LOGITS = 2**26  # at most this many logits at a time: 256 MiB in float32
LARGE = 100.0  # hidden states so large that a soft cap shows

Head = Callable[[Tensor], Tensor]


def token_losses(head: Head, hidden: Tensor, target: Tensor, chunk: int) -> Tensor:
    """-log p of each of M target tokens from the hidden states (M, d) that predict them, in nats, float32.

    At most `chunk` tokens' logits exist at a time; where there are several chunks, the backward pass computes their logits
    again.
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
    """The transformers model inside PEFT's wrapping; its adapters stay part of its layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def logit_chunk(inner: Any) -> int:
    """How many tokens' logits make up LOGITS."""
    return max(1, LOGITS // inner.get_output_embeddings().weight.shape[0])


def head_of(model: nn.Module) -> Head:
    """The map from last hidden states (M, d) to logits (M, V) that the model's own forward pass ends with.

    Most models end with a linear layer. Others cap or scale its output (Gemma 2, Cohere, Granite): of these, the forward
    pass itself is run, on given hidden states in place of the backbone's. The choice is made by comparing values.
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
            same = True  # no such forward pass; whoever uses the head compares whole log-probs
    return linear if same else whole


def _after_backbone(inner: Any) -> Head:
    """The model's forward pass without its backbone; parameters are shared with the model."""
    shell = copy.copy(inner)
    vars(shell).pop("forward", None)  # accelerate's wrapper, which would call the whole model
    shell._modules = inner._modules | {inner.base_model_prefix: _Given()}
    return lambda hidden: shell(inputs_embeds=hidden[None], use_cache=False).logits[0]


class _Given(nn.Module):
    """Stands for a backbone: its inputs are its last hidden states. OPT calls its backbone's `decoder`."""

    def forward(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        return _Output(last_hidden_state=inputs_embeds)

    def __getattr__(self, name: str) -> Any:
        return self if name == "decoder" else super().__getattr__(name)


class _Output(BaseModelOutputWithPast):
    """Everything else that a backbone may return (router logits, caches) is None."""

    def __getattr__(self, name: str) -> None:
        return None
