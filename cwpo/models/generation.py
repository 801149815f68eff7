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
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TopKLogitsWarper,
)

from cwpo.data.batching import pad
from cwpo.data.encoding import Text, encode_prompts, sampled
from cwpo.finite import check_finite
from cwpo.models.lengths import forget_lengths, mixes_lengths
from cwpo.models.logprobs import scoring_batches

ROUND = 4  # at least so many tokens, or ROUNDS a response, are drawn before ended rows leave the batch
ROUNDS = 16
SMALLEST = 2.0**-53  # half of the smallest uniform number above 0; the noise of 0 itself would be infinite


class GumbelSampler(LogitsProcessor):
    """logits / temperature + Gumbel noise, one generator per row. `broken`, (B,), marks rows that had a NaN.

    With top_k > 0 only the top_k largest logits (and those equal to the last of them) can be drawn.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_k: int = 0) -> None:
        self.generators = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        self.temperature = temperature
        self.warpers = [TopKLogitsWarper(top_k)] if top_k else []
        self.broken = torch.zeros(len(seeds), dtype=torch.bool)
        self.rows = torch.arange(len(seeds))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.generators = [self.generators[row] for row in rows]
        self.rows = self.rows[torch.tensor(rows, device=self.rows.device)]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken, self.rows = self.broken.to(scores.device), self.rows.to(scores.device)
        self.broken[self.rows] |= scores.isnan().any(dim=1)
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        noise = gumbel(self.generators, scores.shape[1])
        return scores.float() / self.temperature + torch.from_numpy(noise).to(scores.device, torch.float32)


def gumbel(generators: Sequence[np.random.Generator], columns: int) -> NDArray[np.float64]:
    """Standard Gumbel noise, (B, columns): row i equals `generators[i].gumbel`; the logarithms are taken of all at once."""
    uniform = np.empty((len(generators), columns))
    for row, generator in zip(uniform, generators, strict=True):
        generator.random(out=row)
    np.subtract(1.0, np.maximum(uniform, SMALLEST, out=uniform), out=uniform)
    for _ in range(2):  # -log(-log(1 - u)), in place
        np.negative(np.log(uniform, out=uniform), out=uniform)
    return uniform


def prompt_seed(seed: int, tag: str, prompt_id: str) -> int:
    """A 64-bit seed for one prompt; SFT and aligned model differ in `tag`, so their samples are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{tag}/{prompt_id}".encode()).digest()[:8], "big")


def leaves_room(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Text], max_new_tokens: int, context: int | None
) -> list[bool]:
    """Whether each prompt and `max_new_tokens` more fit into a context of so many tokens; None fits everything."""
    lengths = [len(ids) for ids in encode_prompts(tokenizer, prompts)]
    return [context is None or n + max_new_tokens <= context for n in lengths]


@torch.no_grad()
def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    seeds: Sequence[int],
    *,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    top_k: int = 0,
    token_budget: int | None = None,
    progress: Callable[[int], Any] = lambda n: None,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """One response per prompt, in order: response, n_tokens, truncated and same_tokens, as in `encoding.sampled`.

    Prompts of like length come together: `batch_size` of them, or with a token budget as many as fit with their responses.
    One prompt at a time is sampled from where padding would change the samples, see `samples_alone`.
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
    drawn: list[list[int]] = [[] for _ in prompts]
    lengths = [len(row) + max_new_tokens for row in ids]
    alone = samples_alone(model, max(lengths, default=0))
    for rows in scoring_batches(lengths, *((1, None) if alone else (batch_size, token_budget))):
        if alone:
            forget_lengths(model)
        inputs = pad([ids[i] for i in rows], tokenizer.pad_token_id, side="left")
        mask = pad([[1] * len(ids[i]) for i in rows], 0, side="left")
        sampler = GumbelSampler([seeds[i] for i in rows], temperature, top_k)
        size = max_new_tokens if alone else max(ROUND, max_new_tokens // ROUNDS)
        new = _draw(
            model, inputs.to(device), mask.to(device), sampler, tokenizer.eos_token_id, max_new_tokens, size
        )
        broken = np.where(sampler.broken.cpu().numpy(), np.nan, 0.0)
        check_finite(broken, [names[i] for i in rows], "the logits")
        for i, tokens in zip(rows, new, strict=True):
            drawn[i] = tokens
        progress(len(rows))
    eos = tokenizer.eos_token_id
    return sampled(
        tokenizer, prompts, ids, [(row[:-1], True) if row[-1] == eos else (row, False) for row in drawn]
    )


def samples_alone(model: PreTrainedModel, longest: int) -> bool:
    """Whether prompts, with responses up to `longest` tokens, must be sampled from one at a time.

    This holds where positions depend on the longest row, and where layers keep a state instead of keys and values
    (Mamba, hybrids, RWKV): transformers cannot remove ended rows from a state, and padding can change it.
    """
    layers = DynamicCache(config=model.config).layers
    keeps_state = getattr(model, "_is_stateful", False) or any(
        not hasattr(layer, "batch_select_indices") for layer in layers
    )
    return keeps_state or mixes_lengths(model.config, longest)


def _draw(
    model: PreTrainedModel,
    inputs: Tensor,
    mask: Tensor,
    sampler: GumbelSampler,
    eos: int,
    most: int,
    size: int,
) -> list[list[int]]:
    """New tokens of each row, up to and including EOS, `most` at most. After `size` tokens ended rows leave the batch."""
    new: list[list[int]] = [[] for _ in inputs]
    rows = list(range(len(inputs)))
    cache = None
    while True:
        output = model.generate(
            input_ids=inputs,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=min(size, most - len(new[rows[0]])),
            logits_processor=LogitsProcessorList([sampler]),
            return_dict_in_generate=True,
        )
        tokens = output.sequences[:, inputs.shape[1] :]
        for row, fresh in zip(rows, tokens.tolist(), strict=True):
            new[row] += fresh[: fresh.index(eos) + 1] if eos in fresh else fresh
        going = [i for i, row in enumerate(rows) if new[row][-1] != eos and len(new[row]) < most]
        if not going:
            return new
        kept = torch.tensor(going, device=inputs.device)
        cache = output.past_key_values
        cache.batch_select_indices(kept)
        inputs = output.sequences[kept]
        mask = torch.cat([mask[kept], torch.ones_like(tokens[kept])], dim=1)
        sampler.keep(going)
        rows = [rows[i] for i in going]
