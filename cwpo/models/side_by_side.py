"""Decides how many threads compute batches of a model side by side on a CPU."""

import torch
from torch import nn

from cwpo.models.heads import without_adapters
from cwpo.models.lengths import mixing_length

SMALL = 1_000_000  # parameters; above this, two threads that share each matrix product are as fast (measured)


def threads_of(model: nn.Module) -> int:
    """Returns how many batches to compute at the same time: torch's number of threads for small models on CPUs, else 1.

    Small: up to SMALL parameters. Always 1 for models that keep state between forward passes: sharded ones and those
    whose RoPE depends on the longest row of a batch (see mixing_length).
    """
    inner = without_adapters(getattr(model, "module", model))
    size = sum(parameter.numel() for parameter in inner.parameters())
    on_cpu = next(inner.parameters()).device.type == "cpu"
    stateful = hasattr(inner, "reshard") or mixing_length(inner.config) is not None
    return torch.get_num_threads() if on_cpu and size <= SMALL and not stateful else 1
