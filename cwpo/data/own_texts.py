"""Prompt and responses of a user's row, whether they are strings, lists of chat messages, or whole dialogues."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import (
    Message,
    as_messages,
    encodes,
    replied,
    replies,
    split_dialogue,
    turns,
    written,
)
from cwpo.data.encoding import Text

Value = str | list[Message]
Texts = tuple[str, str, str]  # prompt, first response, second response
PYTHON = ("[{'role':", "[{'content':", "[{'from':", "[{'value':")  # how str() writes a list of messages


def pair_texts(prompt: Any, first: Any, second: Any, sides: Sequence[str]) -> tuple[Texts | None, str, str]:
    """((prompt, first, second), why the pair is left out, what is wrong with it); the first is None unless both are "".

    A row with messages anywhere is a conversation, written as HH-RLHF does: "\\n\\nHuman: hi\\n\\nAssistant:" and " hello".
    Two lists of messages have their common beginning as prompt unless the row has a prompt of its own; a prompt that is
    text is what the user says. Two strings without a prompt must be HH-RLHF's dialogues. `sides` are the responses' names.
    """
    texts, _, reason, problem = _read(prompt, first, second, sides)
    return texts, reason, problem


def pair_messages(prompt: Any, first: Any, second: Any) -> str | None:
    """The prompt's messages of a row that `pair_texts` reads, as JSON; None where the row is plain text."""
    _, messages, _, _ = _read(prompt, first, second, ("first", "second"))
    return None if messages is None else json.dumps(messages, ensure_ascii=False, default=str)


def own_messages(record: Mapping[str, Any]) -> str | None:
    """The column `messages` that annotate.py writes beside a prompt; None where the row has none, or another's."""
    messages = _parsed(record["messages"]) if isinstance(record.get("messages"), str) else None
    same = isinstance(messages, list) and written(messages) == record.get("prompt")
    return str(record["messages"]) if same else None


def prompt_of(record: Mapping[str, Any], column: str) -> Text | None:
    """The prompt of a row as annotate.py reads it, as messages where the row has some; None where there is none."""
    kept = own_messages(record)
    if kept is not None:
        return json.loads(kept)
    for sides in (("response_a", "response_b"), ("chosen", "rejected")):
        if all(name in record for name in sides):
            first, second = (record[name] for name in sides)
            texts, messages, _, _ = _read(record.get(column), first, second, sides)
            if texts is not None:
                return messages if messages is not None else texts[0]
    return _parsed(record.get(column))


def as_conversations(table: pd.DataFrame, *sides: str) -> list[list[Text]]:
    """The prompts and the responses in the columns `sides` as `encode` reads them: messages where the row keeps some."""
    kept = table["messages"] if "messages" in table else pd.Series(None, table.index, dtype=object)
    chat = [isinstance(messages, str) for messages in kept]
    prompts = [
        json.loads(m) if is_chat else p for m, is_chat, p in zip(kept, chat, table["prompt"], strict=True)
    ]
    responses = [
        [replies(text) if is_chat else text for is_chat, text in zip(chat, table[side], strict=True)]
        for side in sides
    ]
    return [prompts, *responses]


def _read(
    prompt: Any, first: Any, second: Any, sides: Sequence[str]
) -> tuple[Texts | None, list[Message] | None, str, str]:
    """(texts, the prompt's messages, why the pair is left out, what is wrong with it)."""
    values: list[Value | None] = []
    for name, value in zip(("prompt", *sides), (prompt, first, second), strict=True):
        if _missing(value):
            if name != "prompt":
                return None, None, f"missing_{name}", ""
            values.append(None)
            continue
        parsed = _parsed(value)
        if parsed is None:
            return (
                None,
                None,
                "",
                f"have a {name} that is neither text nor a list of messages with role and content",
            )
        if isinstance(parsed, str) and parsed.startswith(PYTHON):
            return (
                None,
                None,
                "",
                f"have a {name} with messages as Python prints them; write them as JSON (json.dumps)",
            )
        values.append(parsed)
    asked, a, b = values
    if isinstance(a, str) != isinstance(b, str):
        return None, None, "", f"have text in one of {' and '.join(sides)} and messages in the other"
    if a == b:
        return None, None, "identical_responses", ""
    plain = isinstance(a, str) and not isinstance(asked, list)
    texts, messages, reason = (_plain if plain else _conversation)(asked, a, b)
    if texts is not None and not (texts[1].strip() and texts[2].strip()):
        return None, None, "empty_response", ""
    return texts, messages, reason, ""


def _plain(asked: Any, a: Any, b: Any) -> tuple[Texts | None, None, str]:
    if asked is not None:
        return (asked, a, b), None, ""
    first, second = split_dialogue(a), split_dialogue(b)
    if first is None:
        return None, None, "missing_prompt"
    if second is None or first[0] != second[0]:
        return None, None, "prompts_differ"
    return (first[0], first[1], second[1]), None, ""


def _conversation(asked: Any, a: Any, b: Any) -> tuple[Texts | None, list[Message] | None, str]:
    if isinstance(a, str):
        a, b = ([{"role": "assistant", "content": text.removeprefix(" ")}] for text in (a, b))
    shared = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    begun, a, b = a[:shared], a[shared:], b[shared:]
    if isinstance(asked, str):
        same = bool(begun) and begun[-1] == {"role": "user", "content": asked}
        asked = begun if same else turns(asked)
    asked = asked or begun
    if not a or not b:
        return None, None, "empty_response"
    if a[0]["role"] != "assistant" or b[0]["role"] != "assistant":
        return None, None, "prompts_differ"
    if not asked:
        return None, None, "missing_prompt"
    return (written(asked), replied(a), replied(b)), asked, ""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _parsed(value: Any) -> Value | None:
    """Text as it is, messages in one form, also from JSON; None for anything else, and for half characters."""
    if not isinstance(value, str):
        return as_messages(value)
    if value.lstrip()[:1] == "[":
        try:
            messages = as_messages(json.loads(value))
        except (ValueError, RecursionError):
            messages = None
        if messages is not None:
            return messages
    return value if encodes(value) else None
