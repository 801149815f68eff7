"""Sets how many tokens of a batch are computed at once: measured in the second step, halved if memory runs out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from cwpo.data.batching import Budget
from cwpo.errors import InputError

USED = 0.85  # the share of free memory that a part may take; later parts may need more memory per token
MOST = 65_536  # tokens; more at once are not faster


class Memory(NamedTuple):
    """Bytes of a GPU's memory: `total` this process can have, `held` it has now, `most` it had since forget_peak."""

    total: int
    held: int
    most: int


def memory_of(device: torch.device) -> Memory | None:
    """Returns the memory of a GPU; None for other devices, which are not measured."""
    if device.type != "cuda":
        return None
    total = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return Memory(total, torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))


def measure(budget: Budget, memory: Memory | None, tokens: int) -> None:
    """Sets budget.tokens to how many tokens fit into the GPU's memory at once, and budget.measured to False.

    `memory` was measured after a step whose largest part had `tokens` tokens. If it is None, nothing is set.
    """
    if memory is not None:
        each = max(1, memory.most - memory.held) / tokens
        budget.tokens = max(1, min(MOST, int(USED * (memory.total - memory.held) / each)))
        budget.measured = False


def back_off(budget: Budget, inputs: Mapping[str, Any], error: RuntimeError) -> dict[str, Any]:
    """Halves budget.tokens until the batch has more parts; returns the batch in these parts.

    budget.tokens may have been lowered since this batch was collated. If its present value gives more parts already, it
    stays. Raises InputError if all parts have one row.
    """
    whole, parts = inputs["whole"], inputs["micro"]
    if len(parts) == len(whole.rows):
        longest = max(map(whole.collator.tokens, whole.rows))
        raise InputError(
            f"a single row of {longest} tokens does not fit into the memory of the device ({str(error).splitlines()[0]}); use "
            "gradient_checkpointing=true (a key of sft and of alignment), lora.enabled=true, a lower max_tokens "
            "(in experiments: data.max_tokens), or a larger device"
        ) from error
    budget.measured = False
    parts = whole.parts(budget.tokens)
    while len(parts) <= len(inputs["micro"]):
        budget.tokens = max(1, budget.tokens // 2)
        parts = whole.parts(budget.tokens)
    return {"micro": parts, "whole": whole}


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
