"""Which pairs an annotator can read: tokens of a pair's longest sequence, and the most that are allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.encoding import encode
from cwpo.data.lengths import check_words
from cwpo.data.own_texts import as_conversations
from cwpo.models.pairrm import encode_joint
from cwpo.models.policy import context_length, load_tokenizer
from cwpo.models.reward_models import read_reward, reward_inputs
from cwpo.own.chat import wished
from cwpo.own.folder import checkpoint_of, is_ours, read_note


def longest(cfg: Any, first: pd.DataFrame) -> tuple[int, Callable[[pd.DataFrame], np.ndarray]]:
    """The limit, cfg.max_tokens or the model's context, and a function that counts the tokens of N pairs, (N,).

    Raises InputError where the tokenizer knows no word of the `first` pairs.
    """
    path = checkpoint_of(cfg.annotator.path or cfg.model)
    limit = min(cfg.max_tokens, context_length(path, cfg.revision) or cfg.max_tokens)
    if cfg.annotator.path is not None and not is_ours(cfg.annotator.path):
        reader, chat = read_reward(path, cfg.revision, wished(cfg.chat))
        check_words(reader, first["response_a"].tolist(), path)

        def whole(pairs: pd.DataFrame) -> np.ndarray:
            prompts, *sides = as_conversations(pairs, "response_a", "response_b")
            read = (reward_inputs(reader, prompts, side, chat)["input_ids"] for side in sides)
            return _longer(*([len(ids) for ids in rows] for rows in read))

        return min(limit, reader.model_max_length), whole
    kind = read_note(cfg.annotator.path)["kind"] if cfg.annotator.path else cfg.annotator.kind
    tokenizer = load_tokenizer(path, cfg.revision, chat=wished(cfg.chat))
    check_words(tokenizer, first["response_a"].tolist(), path)

    def tokens(pairs: pd.DataFrame) -> np.ndarray:
        prompts, first, second = as_conversations(pairs, "response_a", "response_b")
        if kind == "pairrm":
            return np.array([len(ids) for ids, _ in encode_joint(tokenizer, prompts, first, second)])
        return _longer(
            *([len(ids) for ids, _ in encode(tokenizer, prompts, side)] for side in (first, second))
        )

    return limit, tokens


def _longer(a: list[int], b: list[int]) -> np.ndarray:
    return np.maximum(np.array(a, dtype=int), np.array(b, dtype=int))
