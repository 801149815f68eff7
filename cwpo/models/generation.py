"""Sampling responses so that each depends on its own seed only, not on what else is in the batch.

Adding Gumbel noise to the logits and taking the largest draws exactly from the softmax (Gumbel-max). The noise of each
row comes from its own generator, so `transformers`' greedy search does the sampling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cwpo.data.batching import encode_prompts, pad
from cwpo.finite import check_finite


class GumbelSampler(LogitsProcessor):
    """logits / temperature + Gumbel noise, one generator per row. `broken`, (B,), marks rows that had a NaN among them."""

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.generators = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        self.temperature = temperature
        self.broken = torch.zeros(len(seeds), dtype=torch.bool)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken = self.broken.to(scores.device) | scores.isnan().any(dim=1)
        noise = np.stack([g.gumbel(size=scores.shape[1]) for g in self.generators])
        return scores.float() / self.temperature + torch.from_numpy(noise).to(scores.device, torch.float32)


def prompt_seed(seed: int, tag: str, prompt_id: str) -> int:
    """A 64-bit seed for one prompt; SFT and aligned model differ in `tag`, so their samples are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{tag}/{prompt_id}".encode()).digest()[:8], "big")


def leaves_room(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_new_tokens: int, context: int | None
) -> list[bool]:
    """Whether each prompt and `max_new_tokens` more fit into a context of so many tokens; None fits everything."""
    lengths = [len(ids) for ids in encode_prompts(tokenizer, prompts)]
    return [context is None or n + max_new_tokens <= context for n in lengths]


@torch.no_grad()
def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[int], Any] = lambda n: None,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """One response per prompt, in order: `response` (text), `n_tokens` (EOS included), `truncated` (no EOS in time).

    Raises FloatingPointError, with the prompts' `names` (default: their numbers), where the model's logits are NaN.
    """
    names = names or [f"prompt {i}" for i in range(len(prompts))]
    model.eval()
    # Not the checkpoint's own settings: a repetition penalty or top-p there would change the distribution.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    device = next(model.parameters()).device
    ids = encode_prompts(tokenizer, prompts)
    results: list[dict[str, Any]] = [{} for _ in prompts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        inputs = pad([ids[i] for i in rows], tokenizer.pad_token_id, side="left")
        mask = pad([[1] * len(ids[i]) for i in rows], 0, side="left")
        sampler = GumbelSampler([seeds[i] for i in rows], temperature)
        output = model.generate(
            input_ids=inputs.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList([sampler]),
        )
        check_finite(
            np.where(sampler.broken.cpu().numpy(), np.nan, 0.0), [names[i] for i in rows], "the logits"
        )
        for i, new in zip(rows, output[:, inputs.shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in new
            tokens = new[: new.index(tokenizer.eos_token_id)] if ended else new
            results[i] = {
                "response": tokenizer.decode(tokens, skip_special_tokens=True),
                "n_tokens": len(tokens) + ended,
                "truncated": not ended,
            }
        progress(len(rows))
    return results
