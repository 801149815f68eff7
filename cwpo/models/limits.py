"""What a model and its tokenizer cannot take, as lists of problems, found before anything is computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def context(config: Any) -> int | None:
    """Tokens that a model can read at once, or None where its config sets no limit (ALiBi).

    max_position_embeddings, or with scaled RoPE `factor` times the positions before scaling where that is more.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if positions is None or not rope.get("factor"):
        return positions
    return max(positions, int(rope["factor"] * rope.get("original_max_position_embeddings", positions)))


def vocabulary(config: Any) -> int | None:
    """Rows of the model's embedding, or None where its config does not say."""
    return getattr(config.get_text_config(), "vocab_size", None)


def tokenizer_problems(tokenizer: Any, config: Any) -> list[str]:
    """Whether responses can end, and the special tokens are in the model's vocabulary."""
    no_eos = "the tokenizer has no EOS token, so no response could end; set tokenizer.eos_token"
    problems, most = [no_eos] if tokenizer.eos_token_id is None else [], vocabulary(config) or np.inf
    for name in ("bos_token", "eos_token", "pad_token"):
        token, number = getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")
        if number is not None and number >= most:
            problems.append(f"the tokenizer's {name} {token} is token {number}, {_beyond(tokenizer, config)}")
    return problems


def token_problems(sequences: Sequence[Sequence[int]], tokenizer: Any, config: Any) -> list[str]:
    """Whether all tokens of N rows are in the model's vocabulary."""
    highest = np.array([max(ids, default=0) for ids in sequences], dtype=np.int64)
    bad = np.flatnonzero(highest >= (vocabulary(config) or np.inf))
    if not len(bad):
        return []
    row, token = int(bad[0]), int(highest[bad[0]])
    text = tokenizer.convert_ids_to_tokens(token)
    beyond, share = _beyond(tokenizer, config), f"{len(bad)} of {len(sequences)} rows"
    return [f"row {row} has token {token} ({text}), {beyond} ({share})"]


def _beyond(tokenizer: Any, config: Any) -> str:
    return (
        f"beyond the model's vocabulary of {vocabulary(config)} tokens (the tokenizer's has {len(tokenizer)}); use the model's own "
        "tokenizer, or resize the model's embedding: model.resize_token_embeddings(len(tokenizer))"
    )


def length_problems(lengths: Sequence[int], config: Any) -> list[str]:
    """Whether N rows, as the model reads them, fit into its context."""
    most = context(config)
    long = [] if most is None else [row for row, length in enumerate(lengths) if length > most]
    if not long:
        return []
    return [
        f"row {long[0]} has {lengths[long[0]]} tokens, prompt and longer response together, and the model reads at most {most} "
        f"({len(long)} of {len(lengths)} rows are too long); shorten these rows or leave them out"
    ]


def pair_problems(rows: Sequence[Mapping[str, Any]], tokenizer: Any, config: Any) -> list[str]:
    """Everything above, of encode_pairs' rows."""
    sides = [[row[f"{side}_ids"] for row in rows] for side in ("chosen", "rejected")]
    lengths = [max(len(chosen), len(rejected)) for chosen, rejected in zip(*sides, strict=True)]
    both = [[*chosen, *rejected] for chosen, rejected in zip(*sides, strict=True)]
    return [*length_problems(lengths, config), *token_problems(both, tokenizer, config)]
