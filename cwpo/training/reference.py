"""The reference of a policy that learns on: the same model, its trainable weights for the moment as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Reference:
    """A copy of what is trained. Of a model with adapters these alone, so that policy and reference share one base."""

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model computes as the reference. No gradients may be taken there."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, (parameter, other) in enumerate(self._kept):
            self._kept[index] = (parameter, parameter.data)
            parameter.data = other.to(parameter.device, parameter.dtype)
