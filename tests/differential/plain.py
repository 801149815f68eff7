"""The right values: plain transformers, one sequence at a time, each read by a model that has read nothing before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, LogitsProcessor

BETA = 0.5
TEMPERATURE = 0.3  # low, so that small differences of logits show in the samples
Row = tuple[Sequence[int], int]  # token ids, and where the response begins


class Values(NamedTuple):
    logps: Tensor  # (2 B,), in nats
    loss: float
    norm: float


@contextmanager
def unread(model: Any) -> Iterator[Any]:
    """The model, left as it was: dynamic RoPE keeps the lengths it has read in attributes and buffers of its modules."""
    before = [
        (module, dict(vars(module)), {name: None if b is None else b.clone() for name, b in module._buffers.items()})
        for module in model.modules()
    ]
    try:
        yield model
    finally:
        for module, attributes, buffers in before:
            vars(module).clear()
            vars(module).update(attributes, _buffers=buffers)


def logits_of(model: Any, ids: Sequence[int]) -> Tensor:
    """Logits of one sequence by one forward pass, (T, V)."""
    with unread(model):
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def in_float32(model: nn.Module) -> Any:
    return copy.deepcopy(model).float().eval()


def merged(model: nn.Module) -> Any:
    """A copy in float32 without adapters: they are added to its weights."""
    copied = in_float32(model)
    return copied.merge_and_unload() if hasattr(copied, "merge_and_unload") else copied


def logp(model: nn.Module, ids: Sequence[int], start: int) -> Tensor:
    """log p of ids[start:]."""
    scores = logits_of(model, ids)[:-1].double().log_softmax(-1)
    return scores[range(start - 1, len(ids) - 1), ids[start:]].sum()


@torch.no_grad()
def logps(model: nn.Module, rows: Sequence[Row]) -> Tensor:
    return torch.stack([logp(model, *row) for row in rows])


def values(model: nn.Module, rows: Sequence[Row], reference: Tensor, weights: Tensor) -> Values:
    """Log-probs, Equation 11's loss of B pairs, and the norm of its gradient. Rows: the chosen, then the rejected."""
    each, gradients = [], []
    trained = [p for p in model.parameters() if p.requires_grad]
    for row in rows:
        each.append(logp(model, *row))
        gradients.append(torch.autograd.grad(each[-1], trained, allow_unused=True))
    leaves = torch.stack(each).detach().requires_grad_()
    chosen, rejected = (leaves - reference.double()).chunk(2)
    loss = -(weights.double() * logsigmoid(BETA * (chosen - rejected))).mean()
    (shares,) = torch.autograd.grad(loss, leaves)
    squares = 0.0
    for parts in zip(*gradients, strict=True):
        whole = [share * part.double() for share, part in zip(shares, parts, strict=True) if part is not None]
        squares += sum(whole).square().sum().item() if whole else 0.0
    return Values(leaves.detach(), loss.item(), squares**0.5)


def noise(seed: int, step: int, columns: int) -> NDArray[np.float64]:
    """The Gumbel noise of a row's seed at a step, (columns,): two rounds of the hash of token ids and key."""
    key = int(np.random.Philox(seed).random_raw(step + 1)[step])
    bits = np.arange(columns, dtype=np.uint64)
    for half in (key % 2**32, key >> 32):
        bits = bits ^ np.uint64(half)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            bits = ((bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)) % np.uint64(2**32)
    return -np.log(-np.log1p(-((bits % np.uint64(2**31)).astype(float) + 0.5) / 2**31))


class Noise(LogitsProcessor):
    """logits / temperature + the Gumbel noise of one row's seed; each call is a step."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step = seed, -1

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        self.step += 1
        drawn = noise(self.seed, self.step, scores.shape[1])
        return scores.float() / TEMPERATURE + torch.from_numpy(drawn).float()


class Forced(LogitsProcessor):
    """Each call is a step, which can draw its given token only."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = iter(tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, next(self.tokens)] = 0
        return forced


@torch.no_grad()
def logits_while_drawing(model: Any, head: list[int], new: list[int]) -> Tensor:
    """Logits from which transformers' own generate draws each of `new`, (len(new), V): with dynamic RoPE not those of one pass."""
    ids = torch.tensor([head])
    settings = {"do_sample": False, "max_new_tokens": len(new), "eos_token_id": -1, "pad_token_id": 0}
    with unread(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=[Forced(new)],
            output_logits=True,
            return_dict_in_generate=True,
            **settings,
        )
    return torch.cat(output.logits).float()


@torch.no_grad()
def drawn(model: Any, head: list[int], seed: int, most: int, eos: int) -> list[int]:
    """New tokens by transformers' own generate in a batch of one, EOS included."""
    ids = torch.tensor([head])
    settings = {"do_sample": False, "max_new_tokens": most, "eos_token_id": eos, "pad_token_id": eos}
    with unread(model):
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=[Noise(seed)], **settings
        )
    return output[0, len(head) :].tolist()


@torch.no_grad()
def short_of_best(model: nn.Module, head: list[int], new: list[int], seed: int) -> float:
    """How far, at most, a drawn token's score is below the best one, in logits over temperature."""
    noise, logits = Noise(seed), logits_while_drawing(model, head, new)
    scores = torch.cat([noise(None, row[None]) for row in logits])
    return (scores.max(1).values - scores[range(len(new)), new]).max().item()


@torch.no_grad()
def rewards(folder: Any, rows: Sequence[Row]) -> list[float]:
    """The scores that transformers' own classifier gives to sequences at their last token."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    model.config.get_text_config().pad_token_id = None  # then the last token is read, whatever it is
    return [logits_of(model, ids).item() for ids, _ in rows]
