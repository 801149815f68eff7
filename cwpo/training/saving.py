"""From a trainer to a checkpoint, also where several processes hold the model's parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType

from cwpo.models.adapters import Base, save_adapters


def save_trained(
    trainer: Any, tokenizer: Any, folder: Path, *, fresh: Callable[[], Any], base: Base | None = None
) -> None:
    """Write the trainer's model and the tokenizer; every process must call this, the first one writes.

    Adapters are merged, or with a `base` written alone. `fresh` gives a model of the same architecture and adapters: what is
    sharded is gathered into it.
    """
    accelerator = trainer.accelerator
    if accelerator.distributed_type == DistributedType.FSDP:
        weights = accelerator.get_state_dict(trainer.model_wrapped)
    if accelerator.is_main_process:
        model = trainer.model
        if accelerator.distributed_type == DistributedType.FSDP:
            model = fresh()
            model.load_state_dict(weights)
        if base is None:
            merged(model).save_pretrained(folder)
        else:
            save_adapters(model, base, folder)
        tokenizer.save_pretrained(folder)
    wait_for_all()


def merged(model: Any) -> Any:
    """The model with its adapters, if it has any, added to its weights in float32: 16 bits would round small updates away."""
    return model.float().merge_and_unload() if hasattr(model, "merge_and_unload") else model


def wait_for_all() -> None:
    """Until every process is here; at once where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
