"""Checks, before anything is computed, whether a model and its tokenizer can take certain texts; returns messages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

ENCODERS = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, "bert-generation"}
# Config settings that make models not in ENCODERS attend to later tokens: XLNet; Gemma 3; Llama and others.
LOOKS_AHEAD = {"attn_type": "bi", "use_bidirectional_attention": True, "is_causal": False}


def context(config: Any) -> int | None:
    """Returns how many tokens a model can read at once, or None if its config sets no limit (ALiBi).

    This is max_position_embeddings or, for scaled RoPE, factor x original_max_position_embeddings if that is more. A
    missing original_max_position_embeddings counts as equal to max_position_embeddings.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if positions is None or not rope.get("factor"):
        return positions
    return max(positions, int(rope["factor"] * rope.get("original_max_position_embeddings", positions)))


def causal_problem(config: Any) -> str | None:
    """Returns why a model with this config cannot score a text from left to right, or None if it can.

    transformers loads such models without an error: encoder-decoders, of which it loads the decoder alone, and BERT and
    similar models, whose tokens attend to later ones.
    """
    if config.is_encoder_decoder:
        why = "an encoder-decoder"
    elif (config.model_type in ENCODERS and not _is_decoder(config)) or _looks_ahead(config.get_text_config()):
        why = "an encoder, whose tokens attend to later ones"
    else:
        return None
    return f"is a model of type {config.model_type}, {why}; use a causal language model, such as OPT, Llama or Qwen"


def _is_decoder(config: Any) -> bool:
    return getattr(config, "is_decoder", False) or getattr(config, "causal", False)  # XLM has `causal`


def _looks_ahead(config: Any) -> bool:
    return any(getattr(config, name, None) == value for name, value in LOOKS_AHEAD.items())


def vocabulary(config: Any) -> int | None:
    """Returns how many token ids the model's embedding has, or None if the config does not say."""
    return getattr(config.get_text_config(), "vocab_size", None)


def tokenizer_problems(tokenizer: Any, config: Any) -> list[str]:
    """Returns a message for each reason why a model and its tokenizer cannot be used, else []: the tokenizer has no EOS
    token, a special token is beyond the model's vocabulary, or the model is not causal (see causal_problem)."""
    no_eos = "the tokenizer has no EOS token, so no response could end; set tokenizer.eos_token"
    problems, most = [no_eos] if tokenizer.eos_token_id is None else [], vocabulary(config) or np.inf
    if problem := causal_problem(config):
        problems.append(f"the model {problem}")
    for name in ("bos_token", "eos_token", "pad_token"):
        token, number = getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")
        if number is not None and number >= most:
            problems.append(f"the tokenizer's {name} {token} is token {number}, {_beyond(tokenizer, config)}")
    return problems


def token_problems(sequences: Sequence[Sequence[int]], tokenizer: Any, config: Any) -> list[str]:
    """Returns one message if any of `sequences` (token ids) has a token beyond the model's vocabulary, else []."""
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
    """Returns one message if any of `lengths`, the tokens of each row, exceeds the model's context, else []."""
    most = context(config)
    long = [] if most is None else [row for row, length in enumerate(lengths) if length > most]
    if not long:
        return []
    return [
        f"row {long[0]} has {lengths[long[0]]} tokens, prompt and longer response together, and the model reads at most {most} "
        f"({len(long)} of {len(lengths)} rows are too long); shorten these rows or leave them out"
    ]


def pair_problems(rows: Sequence[Mapping[str, Any]], tokenizer: Any, config: Any) -> list[str]:
    """Returns one message if a sequence of a pair exceeds the model's context, and one if a token is beyond the model's
    vocabulary, else []. `rows`: pairs as encode_pairs returns them."""
    pairs = [(row["chosen_ids"], row["rejected_ids"]) for row in rows]
    lengths = [max(len(chosen), len(rejected)) for chosen, rejected in pairs]
    return [*length_problems(lengths, config), *token_problems([c + r for c, r in pairs], tokenizer, config)]
