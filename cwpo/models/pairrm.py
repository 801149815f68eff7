"""Computes PairRM's scores: the weak model reads both responses, and f(x, y1, y2) says how far y1 beats y2 (J.9).

The sequence is tokens(prompt) + tokens(y1) + EOS + tokens(y2) + EOS; the score is read at its last token.
"""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from cwpo.data.encoding import Encoded, Text, encode
from cwpo.errors import InputError
from cwpo.models.annotator import score_responses


def encode_joint(
    tokenizer: Tokenizer, prompts: Sequence[Text], first: Sequence[Text], second: Sequence[Text]
) -> list[tuple[list[int], int]]:
    """Returns (token ids, prompt length) of prompt + first response + EOS + second response + EOS, for each pair."""
    heads, tails = encode(tokenizer, prompts, first), encode(tokenizer, prompts, second)
    return [(ids + other[start:], start) for (ids, start), (other, _) in zip(heads, tails, strict=True)]


def encode_both_orders(
    tokenizer: Tokenizer, prompts: Sequence[Text], chosen: Sequence[Text], rejected: Sequence[Text]
) -> list[dict[str, list[int] | int]]:
    """Returns rows for PairCollator. The chosen response comes first in `chosen_ids` and second in `rejected_ids`."""
    right = encode_joint(tokenizer, prompts, chosen, rejected)
    swapped = encode_joint(tokenizer, prompts, rejected, chosen)
    return [
        {"chosen_ids": ids, "chosen_start": start, "rejected_ids": others, "rejected_start": start}
        for (ids, start), (others, _) in zip(right, swapped, strict=True)
    ]


def check_joint_lengths(rows: Sequence[Encoded], context: int | None, path: object) -> None:
    """Raises InputError if a row has more tokens than `context`, the limit of the model at `path` (None: no limit)."""
    lengths = [len(ids) for ids, _ in rows]
    over = 0 if context is None else sum(length > context for length in lengths)
    if context is not None and over:
        raise InputError(
            f"annotator=pairrm reads both responses at once, and {over} of {len(rows)} pairs then have more than the "
            f"{context} tokens that pair.weak={path} can read (longest: {max(lengths)}); data.max_tokens={context // 2} "
            "is short enough for every pair, or use annotator=bt"
        )


def score_both_orders(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Text],
    first: Sequence[Text],
    second: Sequence[Text],
    token_budget: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns f(prompt, first, second) / 2 and f(prompt, second, first) / 2, each (N,), in logits.

    f is the model's score. The first value minus the second is the logit that `first` is better, averaged over both
    orders. Swapping `first` and `second` swaps the two values, so this logit changes its sign.
    """
    pad_id = tokenizer.pad_token_id
    right, swapped = (
        score_responses(model, encode_joint(tokenizer, prompts, *both), pad_id, token_budget=token_budget)
        for both in ((first, second), (second, first))
    )
    return right / 2, swapped / 2
