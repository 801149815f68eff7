"""Saving a trained model as a checkpoint, also when several processes each hold a part of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType

from cwpo.models.adapters import Base, save_adapters


def save_trained(
    trainer: Any, tokenizer: Any, folder: Path, *, fresh: Callable[[], Any], base: Base | None = None
) -> None:
    """Writes the trainer's model and the tokenizer to `folder`. All processes must call this; only the first writes.

    Adapters are merged into the model or, if there is a `base`, written alone. `fresh()` makes a model of the same
    architecture and adapters. It is called if the model is sharded; the gathered weights are put into the new model.
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
    """Returns the model with any adapters merged into its weights in float32: 16 bits would lose small updates."""
    return model.float().merge_and_unload() if hasattr(model, "merge_and_unload") else model


def wait_for_all() -> None:
    """Blocks until every process has made this call; returns at once in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
