"""How many threads may compute batches of a model side by side on a CPU."""

import torch
from torch import nn

from cwpo.models.heads import without_adapters
from cwpo.models.lengths import mixing_length

SMALL = 1_000_000  # parameters; from here on two threads inside the products are as fast (measured)


def threads_of(model: nn.Module) -> int:
    """Returns torch's number of threads if batches of the model gain from one thread each, else 1.

    They do if its products are small and it computes on a CPU. Batches come one after the other if the model is sharded
    or if its positions depend on the longest row, so that it keeps state between forward passes.
    """
    inner = without_adapters(getattr(model, "module", model))
    size = sum(parameter.numel() for parameter in inner.parameters())
    on_cpu = next(inner.parameters()).device.type == "cpu"
    stateful = hasattr(inner, "reshard") or mixing_length(inner.config) is not None
    return torch.get_num_threads() if on_cpu and size <= SMALL and not stateful else 1
