"""Sets how many tokens of a batch are computed at once: measured in the second step, halved if memory runs out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from cwpo.data.batching import Budget
from cwpo.errors import InputError

USED = 0.85  # the share of free memory that a part may take; later parts may need more memory per token
MOST = 65_536  # tokens; more at once are not faster


class Memory(NamedTuple):
    """Bytes of a GPU that this process can have (total), has now (held), had at most since forget_peak (most)."""

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
    """Sets budget.tokens to what fits into `memory`, as it was after a step with parts of up to `tokens` tokens, and
    budget.measured to False. Does nothing if that is False already, or if `memory` is None."""
    if budget.measured and memory is not None:
        each = max(1, memory.most - memory.held) / tokens
        budget.tokens = max(1, min(MOST, int(USED * (memory.total - memory.held) / each)))
        budget.measured = False


def back_off(budget: Budget, inputs: Mapping[str, Any], error: RuntimeError) -> dict[str, Any]:
    """Halves budget.tokens until the batch has more parts; returns these. Raises InputError if all parts have one row.

    Does not halve it if it was halved after a loader had collated this batch, and this gives more parts already.
    """
    whole, parts = inputs["whole"], inputs["micro"]
    if len(parts) == len(whole.rows):
        longest = max(map(whole.collator.tokens, whole.rows))
        raise InputError(
            f"a single row of {longest} tokens does not fit into the memory of the device ({str(error).splitlines()[0]}); use "
            "gradient_checkpointing=true (of sft and alignment), lora.enabled=true, a lower max_tokens (in runs data.max_tokens), "
            "or a larger device"
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
