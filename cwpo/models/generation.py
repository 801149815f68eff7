"""Samples responses so that each depends on its own seed only, not on what else is in the batch.

The token with the largest logit plus Gumbel noise is an exact draw from the softmax (Gumbel-max), so the greedy search
of `transformers` does the sampling. The noise is a function of the row's seed, the step and the token id, computed on
the model's device: no random generator keeps a state, and every device draws the same noise.
"""

import hashlib
from collections.abc import Sequence
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
    StoppingCriteria,
    StoppingCriteriaList,
    TopKLogitsWarper,
)
from transformers import PreTrainedTokenizerBase as Tokenizer

from cwpo.data.batching import pad
from cwpo.data.encoding import Text, encode_prompts, sampled
from cwpo.errors import InputError
from cwpo.finite import check_finite
from cwpo.models.lengths import forget_lengths, mixes_lengths
from cwpo.models.logprobs import scoring_batches
from cwpo.models.memory import in_batches, sampling_batches

FEWEST = 8  # a batch with fewer rows keeps its ended rows until all have ended
# (shift, factor) of the 32-bit integer hash "lowbias32" by C. Wellons; see _mixed
MIXED = ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32))


class GumbelSampler(LogitsProcessor):
    """Adds Gumbel noise, computed from each row's seed, to logits / temperature; each call is one step.

    `broken`, (B,), marks rows whose logits had a NaN. With top_k > 0 only the top_k largest logits (and logits equal to
    the smallest of these) can be drawn.
    """

    def __init__(
        self, seeds: Sequence[int], temperature: float, steps: int, top_k: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.keys = torch.from_numpy(np.stack([step_keys(seed, steps) for seed in seeds])).to(device)
        self.temperature = temperature
        self.warpers = [TopKLogitsWarper(top_k)] if top_k else []
        self.broken = torch.zeros(len(seeds), dtype=torch.bool, device=device)
        self.rows = torch.arange(len(seeds), device=device)
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken[self.rows] |= scores.isnan().any(dim=1)
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        noise = gumbel(self.keys[self.rows, self.step], scores.shape[1])
        self.step += 1
        return noise.add_(scores.float() / self.temperature)


def step_keys(seed: int, steps: int) -> NDArray[np.int32]:
    """Returns 64 random bits for each step, (steps, 2), int32. A step's bits do not depend on how many steps follow."""
    return np.random.Philox(seed).random_raw(steps).astype("<u8").view("<i4").reshape(steps, 2)


def gumbel(keys: Tensor, columns: int) -> Tensor:
    """Returns standard Gumbel noise in [-2.9, 22.2], (B, columns), float32, from a key for each row: (B, 2), int32.

    A keyed permutation of the 32-bit numbers maps each column (token id) to a random number; 31 bits are used. Large
    noise, which decides which token is drawn, has full resolution: it comes from uniform numbers near 0.
    """
    bits = torch.arange(columns, dtype=torch.int32, device=keys.device) ^ keys[:, :1]
    bits = _mixed(_mixed(bits).bitwise_xor_(keys[:, 1:]))
    uniform = bits.bitwise_and_(2**31 - 1).to(torch.float32).add_(0.5).mul_(2.0**-31)
    uniform.clamp_(max=1 - 2.0**-24)  # rounding could make it 1, whose noise would be infinite
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _mixed(bits: Tensor) -> Tensor:
    """Hashes int32 numbers in place. No two numbers get the same hash."""
    for shift, factor in MIXED:
        bits.bitwise_xor_((bits >> shift).bitwise_and_(2 ** (32 - shift) - 1)).mul_(factor)
    return bits.bitwise_xor_((bits >> 16).bitwise_and_(2**16 - 1))


def prompt_seed(seed: int, tag: str, prompt_id: str) -> int:
    """Returns a 64-bit hash of the arguments. Different tags make samples of SFT and aligned model independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{tag}/{prompt_id}".encode()).digest()[:8], "big")


def leaves_room(tokenizer: Tokenizer, prompts: Sequence[Text], max_new_tokens: int, context: int | None) -> list[bool]:
    """Returns for each prompt whether it and `max_new_tokens` tokens fit into `context` tokens (None: no limit)."""
    lengths = [len(ids) for ids in encode_prompts(tokenizer, prompts)]
    return [context is None or n + max_new_tokens <= context for n in lengths]


@torch.no_grad()
def sample_responses(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Text],
    seeds: Sequence[int],
    *,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    top_k: int = 0,
    token_budget: int | None = None,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Samples a response to each prompt, from the prompt's seed. Returns a dict for each: see `encoding.sampled`.

    Prompts of similar length share a batch. On a GPU, a batch has as many prompts as fit into its memory. Elsewhere, it
    has `batch_size` prompts or, if `token_budget` is given, up to 2 x `token_budget` tokens. Each of its prompts counts
    as many tokens as the longest one + `max_new_tokens`. If padding would change samples (see samples_alone), each
    prompt is a batch of its own.
    Raises InputError for a prompt without tokens (an empty text and no BOS), and FloatingPointError, with the prompts'
    `names` (default: their numbers), if the model's logits are NaN.
    """
    names = names or [f"prompt {i}" for i in range(len(prompts))]
    model.eval()
    # Not the checkpoint's own settings: a repetition penalty or top-p there would change the distribution.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    device, eos = next(model.parameters()).device, tokenizer.eos_token_id
    ids = encode_prompts(tokenizer, prompts)
    if [] in ids:
        raise InputError(
            f"{names[ids.index([])]} is empty and the tokenizer adds no BOS, so no token precedes the response; leave this prompt out"
        )
    drawn: list[list[int]] = [[] for _ in prompts]
    lengths = [len(row) + max_new_tokens for row in ids]
    alone = samples_alone(model, max(lengths, default=0))
    if alone:
        batches = scoring_batches(lengths, 1)
    elif device.type == "cuda":
        batches = sampling_batches(model, lengths)
    else:
        batches = scoring_batches(lengths, batch_size, token_budget)

    def draw(rows: list[int]) -> list[list[int]]:
        if alone:
            forget_lengths(model)
        inputs = pad([ids[i] for i in rows], tokenizer.pad_token_id, side="left")
        mask = pad([[1] * len(ids[i]) for i in rows], 0, side="left")
        sampler = GumbelSampler([seeds[i] for i in rows], temperature, max_new_tokens, top_k, device)
        new = _draw(model, inputs.to(device), mask.to(device), sampler, eos, max_new_tokens)
        check_finite(np.where(sampler.broken.cpu().numpy(), np.nan, 0.0), [names[i] for i in rows], "the logits")
        return new

    for rows, new in in_batches(batches, draw):
        for i, tokens in zip(rows, new, strict=True):
            drawn[i] = tokens
    return sampled(tokenizer, prompts, ids, [(row[:-1], True) if row[-1] == eos else (row, False) for row in drawn])


def samples_alone(model: PreTrainedModel, longest: int) -> bool:
    """Whether responses must be sampled one prompt at a time; `longest`: tokens of the longest prompt plus response.

    True if positions depend on the longest row of a batch, or if layers keep a state instead of keys and values
    (Mamba, hybrids, RWKV): transformers cannot remove ended rows from a state, and padding can change it.
    """
    layers = DynamicCache(config=model.config).layers
    keeps_state = getattr(model, "_is_stateful", False) or any(
        not hasattr(layer, "batch_select_indices") for layer in layers
    )
    return keeps_state or mixes_lengths(model.config, longest)


def _draw(
    model: PreTrainedModel, inputs: Tensor, mask: Tensor, sampler: GumbelSampler, eos: int, most: int
) -> list[list[int]]:
    """Returns up to `most` new tokens per row, EOS included. When HalfEnded stops the batch, ended rows leave it."""
    width = inputs.shape[1]
    rows, sequences = torch.arange(len(inputs), device=inputs.device), inputs
    tokens = torch.full((len(inputs), most), eos, device=inputs.device)
    cache = None
    while True:
        drawn = sequences.shape[1] - width
        sampler.rows, sampler.step = rows, drawn  # goes on at this step, with these rows only
        output = model.generate(
            input_ids=sequences,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=most - drawn,
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList([HalfEnded(len(rows), width, eos)]),
            return_dict_in_generate=True,
        )
        sequences = output.sequences
        new = sequences[:, width:]
        tokens[rows, : new.shape[1]] = new
        kept = ((new != eos).all(dim=1) & (new.shape[1] < most)).nonzero()[:, 0]
        if not len(kept):
            return [row[: row.index(eos) + 1] if eos in row else row for row in tokens.tolist()]
        cache = output.past_key_values
        cache.batch_select_indices(kept)
        rows, sequences = rows[kept], sequences[kept]
        mask = torch.cat([mask[kept], torch.ones_like(sequences[:, mask.shape[1] :])], dim=1)


class HalfEnded(StoppingCriteria):
    """Stops a batch once half of its rows have an EOS at column `start` or later; if it has fewer than FEWEST rows,
    once all have."""

    def __init__(self, rows: int, start: int, eos: int) -> None:
        self.least = rows / 2 if rows >= FEWEST else rows
        self.start, self.eos = start, eos

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        ended = (input_ids[:, self.start :] == self.eos).any(dim=1)
        return (ended.sum() >= self.least).expand(len(ended))
