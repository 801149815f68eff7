"""Rows in one pass without gradients: as many as fit into memory, and half as many after an out-of-memory error."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from cwpo.data.batching import fill_budget

USED = 0.6  # share of the free memory that a batch of sampling may fill
PER_LOGIT = 24  # bytes of a row's logits, its noise and their copies
Result = TypeVar("Result")


def in_batches(
    batches: Sequence[list[int]], compute: Callable[[list[int]], Result]
) -> Iterator[tuple[list[int], Result]]:
    """Each batch of row numbers with what `compute` makes of it. Where memory runs out, this and later batches are halved.

    The error is raised where memory does not hold a single row.
    """
    waiting = list(reversed(batches))
    while waiting:
        rows = waiting[-1]
        try:
            result = compute(rows)
        except RuntimeError as error:
            if len(rows) == 1 or not should_reduce_batch_size(error):
                raise
        else:
            waiting.pop()
            yield rows, result
            continue
        clear_device_cache(garbage_collection=True)  # here, where the traceback no longer holds tensors
        waiting = [half for batch in waiting for half in (batch[len(batch) // 2 :], batch[: len(batch) // 2]) if half]


def sampling_batches(model: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Rows of so many tokens each, in batches whose keys, values and logits fit into the free memory of the model's GPU."""
    device = next(model.parameters()).device
    free = torch.cuda.mem_get_info(device)[0]
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    config = model.config.get_text_config()
    token = cache_numbers(config) * model.dtype.itemsize
    row = PER_LOGIT * config.vocab_size
    return fill_budget([n + row // token for n in lengths], int(USED * (free + unused)) // token)


def cache_numbers(config: Any) -> int:
    """Numbers that a token adds to the key-value cache of a model with this text config."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 2 * config.num_hidden_layers * width * (getattr(config, "num_key_value_heads", None) or heads)
