"""Computes one batch in several CPU threads, each with some of the batch's parts: faster for small models.

Threads inside the products of a small model mostly wait for each other; threads with parts of their own do not.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cwpo.runtime import in_threads


def step_in_threads(trainer: Any, model: torch.nn.Module, parts: Sequence[Any], count: Any, threads: int) -> Tensor:
    """Computes a batch's parts in threads, adds the parts' gradients to the model's, returns the sum of their losses.

    A part's loss is the sum over its rows, divided by `count`, the number of rows in the global batch. Up to
    rounding, results equal those of computing one part after the other. Thread i of n computes parts i, i + n, ...
    Losses and gradients are added up in the order of the threads, so that equal batches always give equal gradients.
    """
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def share(first: int) -> tuple[Any, list[Tensor | None]]:
        own = _apart(trainer)
        gradients: list[Tensor | None] = [None] * len(weights)
        for part in parts[first::threads]:
            loss = own.compute_loss(model, own._prepare_inputs(part), num_items_in_batch=count)
            gradients = list(map(_added, gradients, torch.autograd.grad(loss, weights, allow_unused=True)))
        return own, gradients

    losses = []
    for own, gradients in in_threads(share, range(min(threads, len(parts))), threads):
        losses += own._losses
        trainer._sums = _added(trainer._sums, own._sums)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = _added(weight.grad, gradient)
    trainer._losses += losses
    return torch.stack([loss for loss, *_ in losses]).sum()


@torch.no_grad()
def draws(trainer: Any, model: torch.nn.Module, part: Any) -> bool:
    """Whether a training step draws random numbers, as dropout does; threads would draw them in a varying order."""
    before = torch.get_rng_state()
    model.train()
    _apart(trainer).compute_loss(model, trainer._prepare_inputs(part))
    drawn = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return drawn


def _apart(trainer: Any) -> Any:
    """Returns a shallow copy of the trainer, with its own, empty records of losses and of sums for the logs."""
    own = copy.copy(trainer)
    own._losses, own._sums = [], None
    return own


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
