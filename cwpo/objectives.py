"""Losses of preference pairs: each takes tensors with one number for each of B pairs, and returns B unreduced losses.

`margin` is the policy's log-ratio of chosen over rejected minus the reference's, in nats (Eq. 9 to 11):
[log pi(chosen) - log pi_ref(chosen)] - [log pi(rejected) - log pi_ref(rejected)].
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(gap: Tensor) -> Tensor:
    """Returns -log sigmoid(gap) for each pair, where gap = score(chosen) - score(rejected) (Eq. 4, 5)."""
    return -logsigmoid(gap)


def dpo(margin: Tensor, beta: float) -> Tensor:
    """Returns -log sigmoid(beta * margin); beta > 0. margin: log(policy / reference), chosen minus rejected (Eq. 9)."""
    return -logsigmoid(_positive(beta) * margin)


def ipo(margin: Tensor, beta: float) -> Tensor:
    """Returns (margin - 1 / (2 beta))^2; beta > 0; margin as in `dpo`. The leading minus of Eq. 10 is a misprint."""
    return (margin - 1 / (2 * _positive(beta))) ** 2


def rdpo(margin: Tensor, beta: float, flip_rate: float) -> Tensor:
    """Returns [-(1 - e) log sigmoid(beta * margin) + e log sigmoid(-beta * margin)] / (1 - 2 e) (Eq. 11).

    If labels are flipped with probability e = flip_rate, in [0, 0.5), the expected loss is the DPO loss of the true
    labels. The loss of a pair may be negative.
    """
    if not 0 <= flip_rate < 0.5:
        raise ValueError(f"flip_rate is {flip_rate}; it must lie in [0, 0.5)")
    scaled = _positive(beta) * margin
    return ((1 - flip_rate) * -logsigmoid(scaled) + flip_rate * logsigmoid(-scaled)) / (1 - 2 * flip_rate)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Returns the scalar mean(weights * losses) over pairs (Eq. 8), a plain mean, not divided by sum(weights)."""
    if losses.shape != weights.shape:
        raise ValueError(f"losses {tuple(losses.shape)} and weights {tuple(weights.shape)} differ in shape")
    return torch.mean(weights * losses)


# Losses by name, each a function of margin, beta and flip_rate. conf/objective has a file for each.
OBJECTIVES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "dpo": lambda margin, beta, flip_rate: dpo(margin, beta),
    "ipo": lambda margin, beta, flip_rate: ipo(margin, beta),
    "rdpo": rdpo,
}


def pair_losses(name: str, margin: Tensor, beta: float, flip_rate: float) -> Tensor:
    """Returns the loss of each pair under the objective `name`: dpo, ipo or rdpo, the choices of conf/objective.

    `margin`, (B,): see `dpo`; it is not yet multiplied by beta. Only rdpo uses flip_rate. ValueError for other names.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective is {name!r}; it must be one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](margin, beta, flip_rate)


def _positive(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it must be positive")
    return beta
