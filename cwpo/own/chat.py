"""Whether own pairs go through a model's chat template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cwpo.data.chat import chat_problem, read_as, reads_chat
from cwpo.errors import InputError
from cwpo.models.policy import load_tokenizer
from cwpo.models.reward_models import read_reward


def wished(chat: Any) -> bool | None:
    """The setting `chat` as true, false or None (auto)."""
    return {"true": True, "false": False}.get(str(chat).lower())


def template_used(path: str, revision: str | None, chat: Any, messages: bool, say: Callable[[str], None]) -> bool:
    """Whether prompts go through the template of the model at `path`; says it. `messages`: some of the prompts are messages.

    chat=auto keeps to what a model was trained with here. Another model's template is used for messages, where it can be.
    """
    tokenizer = load_tokenizer(path, revision)
    wish, known, problem = wished(chat), reads_chat(tokenizer), chat_problem(tokenizer)
    if wish and problem:
        raise InputError(
            f"chat=true: the tokenizer of {path} {problem}; use chat=false, or a model with such a template"
        )
    trained = messages and not problem if known is None else known
    used = trained if wish is None else wish
    why = f" (its tokenizer {problem})" if messages and wish is None and not used and problem else ""
    say(f"prompts for {path}: {read_as(used)}{why}")
    return used


def reward_reads_chat(path: str, revision: str | None, chat: Any, say: Callable[[str], None]) -> bool:
    """The same of a reward model that was not trained here: without a wish its checkpoint decides."""
    _, used = read_reward(path, revision, wished(chat))
    say(f"prompts for {path}: {read_as(used)}")
    return used
