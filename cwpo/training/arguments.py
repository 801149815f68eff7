"""Makes the TrainingArguments of transformers from a TrainingConfig."""

import math
import os
from pathlib import Path
from typing import Any

from accelerate import DistributedType
from transformers import TrainingArguments

from cwpo.errors import InputError
from cwpo.runtime import optimizer_on, products_in

FASTEST = {"adamw_torch": "adamw_torch_fused"}  # the same update in one pass over the parameters


def is_sharded() -> bool:
    """Whether `accelerate launch` started this process with FSDP, so that it holds only a part of the model."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def training_arguments(
    config: Any, output: Path, *, rows: int, seed: int, device: str, token_budget: int | str | None = None
) -> TrainingArguments:
    """Returns the TrainingArguments of a TrainingConfig for `rows` training rows.

    The optimiser's batch is `batch_size` rows over all processes. It is split into micro-batches of `micro_batch_size`
    rows or, with a token budget, by MicroBatches. The Trainer logs to no tracker, writes no checkpoint unless told to,
    and uses one GPU per process. Without CUDA or if sharded, plain AdamW replaces the optimisers of bitsandbytes.
    Raises InputError if `batch_size` is not a multiple of the number of processes times the rows of a micro-batch.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # as torchrun sets it
    optimizer = optimizer_on(device, config.optimizer, sharded=is_sharded())
    whole = config.batch_size // processes
    micro = whole if token_budget else config.micro_batch_size or whole
    if not micro or config.batch_size % (micro * processes):
        raise InputError(
            f"batch_size={config.batch_size} cannot be split into equal micro-batches of {micro} rows "
            f"for {processes} processes; make it a multiple of processes x micro_batch_size"
        )
    steps = math.ceil(rows / config.batch_size) * config.epochs
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // (micro * processes),
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=FASTEST.get(optimizer, optimizer),
        bf16=products_in(config.precision, device) == "bfloat16",
        activation_checkpointing=config.gradient_checkpointing,
        logging_steps=max(1, round(steps / 20)),
        save_strategy="no",
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device != "cpu",
        logging_nan_inf_filter=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else nn.DataParallel trains one batch on each visible GPU
    if device == "cpu" and is_sharded():
        # accelerate shards on GPUs only; gloo can shard on CPUs too, which lets tests run without a GPU
        arguments.distributed_state.distributed_type = DistributedType.MULTI_GPU
    return arguments
