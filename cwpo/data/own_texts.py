"""Prompt and responses of a user's row, whether they are strings, lists of chat messages, or whole dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cwpo.data.dialogues import SPEAKERS, TURN

Message = tuple[str, str]  # role, content


def pair_texts(
    prompt: Any, first: Any, second: Any, sides: Sequence[str]
) -> tuple[tuple[str, str, str] | None, str, str]:
    """((prompt, first, second), why the pair is left out, what is wrong with it); the first is None unless both are "".

    Responses may be lists of messages with role and content; what both begin with alike is their prompt, for which a prompt of
    its own takes precedence. One message is its content, several are written as HH-RLHF does. Without a prompt two strings
    must be HH-RLHF's dialogues. `sides` are the responses' names.
    """
    texts: list[str | list[Message] | None] = []
    for name, value in zip(("prompt", *sides), (prompt, first, second), strict=True):
        text = _parsed(value)
        if text is None and not _missing(value):
            return (
                None,
                "",
                f"have a {name} that is neither text nor a list of messages with role and content",
            )
        if text is None and name != "prompt":
            return None, f"missing_{name}", ""
        texts.append(text)
    asked, a, b = texts
    if isinstance(a, str) != isinstance(b, str):
        return None, "", f"have text in one of {' and '.join(sides)} and messages in the other"
    if a == b:
        return None, "identical_responses", ""
    if isinstance(a, list) and isinstance(b, list):
        alike = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), min(len(a), len(b)))
        asked = asked if asked is not None else a[:alike] or None
        a, b = _written(a[alike:]), _written(b[alike:])
    elif asked is None and isinstance(a, str) and isinstance(b, str):
        (head, turn, a), (other, _, b) = a.rpartition(TURN), b.rpartition(TURN)
        if turn and head != other:
            return None, "prompts_differ", ""
        asked = head + turn if turn else None
    if asked is None:
        return None, "missing_prompt", ""
    if isinstance(asked, list):
        asked = _written(asked) + (TURN if len(asked) > 1 else "")
    assert isinstance(a, str) and isinstance(b, str)
    if not a.strip() or not b.strip():
        return None, "empty_response", ""
    return (asked, a, b), "", ""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _parsed(value: Any) -> str | list[Message] | None:
    """Text as it is, messages as (role, content); None for anything else, and for half characters."""
    if isinstance(value, str):
        return value if _encodes(value) else None
    messages = list(value) if isinstance(value, (list, tuple, np.ndarray)) else []
    pairs: list[Message] = []
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, str) or not _encodes(content):
            return None
        pairs.append((str(message.get("role", "user")), content))
    return pairs or None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0][1]
    return "".join(f"\n\n{SPEAKERS.get(role, role.title())}: {content}" for role, content in messages)
