"""Decides how models read the user's pairs: with or without chat template, as which token ids, up to which length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cwpo.data.chat import chat_problem, read_as, reads_chat
from cwpo.data.encoding import encode
from cwpo.data.lengths import check_words
from cwpo.data.own_texts import as_conversations
from cwpo.errors import InputError, TextError
from cwpo.models.pairrm import encode_joint
from cwpo.models.policy import context_length, load_tokenizer
from cwpo.models.reward_models import read_reward, reward_inputs
from cwpo.own.folder import checkpoint_of, is_ours, read_note

Sequences = Callable[[pd.DataFrame], list[list[list[int]]]]


def wished(chat: Any) -> bool | None:
    """Returns the setting `chat` as True, False, or None for auto."""
    return {"true": True, "false": False}.get(str(chat).lower())


@contextmanager
def naming(names: Sequence[str]) -> Iterator[None]:
    """Turns a TextError of the with block into an InputError that names the unreadable text by its entry in `names`."""
    try:
        yield
    except TextError as error:
        raise InputError(f"{names[error.index]}: {error.reason}") from error


def template_used(path: str, revision: str | None, chat: Any, messages: bool, say: Callable[[str], None]) -> bool:
    """Returns, and prints, whether the chat template of the model at `path` formats the prompts.

    `messages`: whether some prompts are lists of messages. With chat=auto, a model trained by cwpo reads prompts as in
    its training; another model uses its template if `messages` is true and the template is usable. Raises InputError
    for chat=true without a usable template.
    """
    tokenizer = load_tokenizer(path, revision)
    wish, known, problem = wished(chat), reads_chat(tokenizer), chat_problem(tokenizer)
    if wish and problem:
        raise InputError(
            f"chat=true: the tokenizer of {path} {problem}; use chat=false, or a model with a usable chat template"
        )
    trained = messages and not problem if known is None else known
    used = trained if wish is None else wish
    why = f" (its tokenizer {problem})" if messages and wish is None and not used and problem else ""
    say(f"prompts for {path}: {read_as(used)}{why}")
    return used


def chat_decided(cfg: Any, messages: bool, say: Callable[[str], None]) -> Any:
    """Returns the settings with chat=true if the annotator's chat template formats prompts, else with chat=false.

    Prints the decision (see template_used).
    """
    path = checkpoint_of(cfg.annotator.path or cfg.model)
    if _foreign(cfg):
        _, used = read_reward(path, cfg.revision, wished(cfg.chat))  # with chat=auto the checkpoint decides
        say(f"prompts for {path}: {read_as(used)}")
    else:
        used = template_used(path, cfg.revision, cfg.chat, messages, say)
    return OmegaConf.merge(cfg, {"chat": str(used).lower()})


def reader(cfg: Any) -> tuple[Any, Sequences]:
    """Returns the annotator's tokenizer, and a function from N pairs to the token ids that the annotator reads.

    These are two lists of N sequences, for `a` and for `b`; for PairRM, which reads both responses at once, one list.
    """
    path = checkpoint_of(cfg.annotator.path or cfg.model)
    if _foreign(cfg):
        tokenizer, chat = read_reward(path, cfg.revision, wished(cfg.chat))
    else:
        tokenizer, chat = load_tokenizer(path, cfg.revision, chat=wished(cfg.chat)), False
    kind = read_note(cfg.annotator.path)["kind"] if is_ours(cfg.annotator.path) else cfg.annotator.kind

    def sequences(pairs: pd.DataFrame) -> list[list[list[int]]]:
        prompts, *sides = as_conversations(pairs, "response_a", "response_b")
        with naming([f"{cfg.data}: row {row}" for row in pairs["row"]]):
            if _foreign(cfg):
                return [reward_inputs(tokenizer, prompts, side, chat)["input_ids"] for side in sides]
            if kind == "pairrm":
                return [[ids for ids, _ in encode_joint(tokenizer, prompts, *sides)]]
            return [[ids for ids, _ in encode(tokenizer, prompts, side)] for side in sides]

    return tokenizer, sequences


def longest(cfg: Any, first: pd.DataFrame) -> tuple[int, Callable[[pd.DataFrame], np.ndarray]]:
    """Returns the annotator's token limit and a function that counts the tokens of the longer sequence of each pair.

    The limit is cfg.max_tokens, or the context if shorter. Raises InputError if the tokenizer knows no word of `first`.
    """
    path = checkpoint_of(cfg.annotator.path or cfg.model)
    limit = min(cfg.max_tokens, context_length(path, cfg.revision) or cfg.max_tokens)
    tokenizer, sequences = reader(cfg)
    check_words(tokenizer, first["response_a"].tolist(), path)
    if _foreign(cfg):
        limit = min(limit, tokenizer.model_max_length)

    def tokens(pairs: pd.DataFrame) -> np.ndarray:
        return np.max([[len(ids) for ids in rows] for rows in sequences(pairs)], axis=0, initial=0)

    return limit, tokens


def _foreign(cfg: Any) -> bool:
    """Returns whether annotator.path is a reward model that cwpo did not train."""
    return cfg.annotator.path is not None and not is_ours(cfg.annotator.path)
