"""Which pairs an annotator can read: tokens of a pair's longest sequence, and the most that are allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.batching import encode
from cwpo.data.lengths import check_words
from cwpo.models.pairrm import encode_joint
from cwpo.models.policy import context_length, load_tokenizer
from cwpo.models.reward_models import load_tokenizer_for_rewards
from cwpo.own.fit import checkpoint_of, is_ours, read_note


def longest(cfg: Any, first: pd.DataFrame) -> tuple[int, Callable[[pd.DataFrame], np.ndarray]]:
    """The limit, cfg.max_tokens or the model's context, and a function that counts the tokens of N pairs, (N,).

    Raises InputError where the tokenizer knows no word of the `first` pairs.
    """
    path = checkpoint_of(cfg.annotator.path or cfg.model)
    limit = min(cfg.max_tokens, context_length(path, cfg.revision) or cfg.max_tokens)
    names = ("prompt", "response_a", "response_b")
    if cfg.annotator.path is not None and not is_ours(cfg.annotator.path):
        reader = load_tokenizer_for_rewards(path, cfg.revision)
        check_words(reader, first["response_a"].tolist(), path)

        def whole(pairs: pd.DataFrame) -> np.ndarray:
            prompts = pairs["prompt"].tolist()
            sides = [
                reader(prompts, pairs[name].tolist())
                if reader.sep_token_id is not None
                else reader((pairs["prompt"] + pairs[name]).tolist())
                for name in names[1:]
            ]
            return _longer(*([len(ids) for ids in side["input_ids"]] for side in sides))

        return min(limit, reader.model_max_length), whole
    kind = read_note(cfg.annotator.path)["kind"] if cfg.annotator.path else cfg.annotator.kind
    tokenizer = load_tokenizer(path, cfg.revision)
    check_words(tokenizer, first["response_a"].tolist(), path)

    def tokens(pairs: pd.DataFrame) -> np.ndarray:
        prompts, first, second = (pairs[name].tolist() for name in names)
        if kind == "pairrm":
            return np.array([len(ids) for ids, _ in encode_joint(tokenizer, prompts, first, second)])
        return _longer(
            *([len(ids) for ids, _ in encode(tokenizer, prompts, side)] for side in (first, second))
        )

    return limit, tokens


def _longer(a: list[int], b: list[int]) -> np.ndarray:
    return np.maximum(np.array(a, dtype=int), np.array(b, dtype=int))
