"""Computes batches without gradients, as large as fits into memory; halves them after an out-of-memory error."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from cwpo.data.batching import fill_budget
from cwpo.runtime import in_threads

USED = 0.6  # share of the free GPU memory that a sampling batch may fill
PER_LOGIT = 24  # bytes per logit of a row: the logit, its noise and their copies
OF_DRIVER = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
Result = TypeVar("Result")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory ran out. accelerate knows torch's messages, but not those of CUDA and cuBLAS themselves."""
    return should_reduce_batch_size(error) or any(words in str(error) for words in OF_DRIVER)


def in_batches(
    batches: Sequence[list[int]], compute: Callable[[list[int]], Result], threads: int = 1
) -> Iterator[tuple[list[int], Result]]:
    """Yields each batch of row numbers with `compute(batch)`. Halves this and all later batches if memory runs out.

    Raises the out-of-memory error if not even a single row fits. With threads > 1, for CPUs (see threads_of),
    that many batches are computed at the same time, and none is halved.
    """
    if threads > 1 and len(batches) > 1:
        yield from zip(batches, in_threads(compute, batches, threads), strict=True)
        return
    waiting = list(reversed(batches))
    while waiting:
        rows = waiting[-1]
        try:
            result = compute(rows)
        except RuntimeError as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
        else:
            waiting.pop()
            yield rows, result
            continue
        clear_device_cache(garbage_collection=True)  # outside `except`, where no traceback holds tensors
        waiting = [half for batch in waiting for half in (batch[len(batch) // 2 :], batch[: len(batch) // 2]) if half]


def sampling_batches(model: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Returns batches of row indices; cache and logits of each fit into free GPU memory. `lengths`: tokens per row."""
    device = next(model.parameters()).device
    free = torch.cuda.mem_get_info(device)[0]
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    config = model.config.get_text_config()
    token = cache_numbers(config) * model.dtype.itemsize
    row = PER_LOGIT * config.vocab_size
    return fill_budget([n + row // token for n in lengths], int(USED * (free + unused)) // token)


def cache_numbers(config: Any) -> int:
    """Returns how many numbers a token adds to the key-value cache of a model with this text config."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 2 * config.num_hidden_layers * width * (getattr(config, "num_key_value_heads", None) or heads)
