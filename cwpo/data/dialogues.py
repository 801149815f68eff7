"""Converts chat messages to dialogues as text in HH-RLHF's form and back: "\\n\\nHuman: hi\\n\\nAssistant: hello"."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

HUMAN = "\n\nHuman:"
TURN = "\n\nAssistant:"
SPEAKER = re.compile(r"\n\n(System|Human|Assistant|Tool):")
ROLES = {"System": "system", "Human": "user", "Assistant": "assistant", "Tool": "tool"}
SPEAKERS = {role: name for name, role in ROLES.items()}
SHAREGPT = {"human": "user", "gpt": "assistant", "function": "tool", "observation": "tool"}
HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs
LISTS = (list, tuple, np.ndarray)  # pandas gives the lists of a Parquet file as arrays
Message = dict[str, Any]  # role and content, both text; tool_calls if the message calls tools


def split_dialogue(text: str) -> tuple[str, str] | None:
    """Splits a dialogue after its last "Assistant:" into prompt and response; None if it has no assistant turn."""
    head, turn, response = text.rpartition(TURN)
    return (head + turn, response) if turn else None


def first_turn(prompt: str) -> str:
    """Returns the text of a dialogue's first human turn, with its leading space; any other text as it is."""
    before, *parts = SPEAKER.split(prompt)
    return parts[parts.index("Human") + 1] if not before and "Human" in parts[::2] else prompt


def cut_to_first_turn(value: Any) -> Any:
    """Cuts a dialogue, text or messages, to its first human turn and last response; returns other values as they are.

    "\\n\\nHuman: hi\\n\\nAssistant: hello\\n\\nHuman: how?\\n\\nAssistant: so" gives
    "\\n\\nHuman: hi\\n\\nAssistant: so".
    """
    if isinstance(value, str):
        parts = split_dialogue(value)
        return f"{HUMAN}{first_turn(parts[0])}{TURN}{parts[1]}" if parts and value.startswith(HUMAN) else value
    messages = as_messages(value) or []
    asked = [message for message in messages if message["role"] == "user"]
    return asked[:1] + messages[-1:] * (messages[-1]["role"] == "assistant") if asked else value


def written(messages: Iterable[Mapping[str, Any]]) -> str:
    """Formats messages as a prompt for the assistant's next turn: "\\n\\nHuman: hi\\n\\nAssistant:"."""
    return _joined(messages) + TURN


def replied(messages: Iterable[Mapping[str, Any]]) -> str:
    """Formats a response, messages of which the first is the assistant's, as text to follow a prompt: " hello"."""
    return _joined(messages).removeprefix(TURN)


def _joined(messages: Iterable[Mapping[str, Any]]) -> str:
    """Joins messages into a text, one turn each. A turn is the content or, if that is empty, the tool calls as JSON."""
    turns = []
    for message in messages:
        role, content, calls = message["role"], message["content"], message.get("tool_calls")
        if calls and not content:
            content = json.dumps(calls, ensure_ascii=False, default=str)
        turns.append(f"\n\n{SPEAKERS.get(role, role.title())}: {content}")
    return "".join(turns)


def replies(text: str) -> list[Message]:
    """Parses a response text, in the form that `replied` returns, into messages; the first is the assistant's."""
    first, *parts = SPEAKER.split(text)
    said = [("Assistant", first), *zip(parts[::2], parts[1::2], strict=True)]
    return [{"role": ROLES[name], "content": content.removeprefix(" ")} for name, content in said]


def turns(prompt: str) -> list[Message]:
    """Parses a prompt, a dialogue that ends in "Assistant:", into messages; any other text becomes one user message.

    "\\n\\nHuman: hi\\n\\nAssistant: hello\\n\\nHuman: how?\\n\\nAssistant:" gives user "hi", assistant "hello", user
    "how?". Consecutive turns of one speaker are joined, for templates that require alternating roles.
    """
    before, *parts = SPEAKER.split(prompt)
    if before.strip() or len(parts) < 4 or parts[-2] != "Assistant" or parts[-1].strip():
        return [{"role": "user", "content": prompt.strip()}]
    messages: list[Message] = []
    for name, content in zip(parts[:-2:2], parts[1:-2:2], strict=True):
        if messages and messages[-1]["role"] == ROLES[name]:
            messages[-1]["content"] += f"\n\n{content.strip()}"
        else:
            messages.append({"role": ROLES[name], "content": content.strip()})
    return messages


def as_messages(value: Any) -> list[Message] | None:
    """Returns the value as a list of messages with role and content, or None if it is not a conversation.

    Accepts messages with the keys role and content or, as in ShareGPT, from (human, gpt) and value. A content may be
    text, None (which becomes ""), or a list of text parts, [{"type": "text", "text": ...}]. Keeps tool_calls.
    """
    messages = [_message(message) for message in value] if isinstance(value, LISTS) else []
    return [m for m in messages if m is not None] if messages and None not in messages else None


def _message(message: Any) -> Message | None:
    if not isinstance(message, Mapping):
        return None
    sharegpt = "from" in message and "role" not in message
    who, what = ("from", "value") if sharegpt else ("role", "content")
    role, content = message.get(who), _content(message[what]) if what in message else None
    if not isinstance(role, str) or not role.strip() or content is None or not encodes(role + content):
        return None
    role = SHAREGPT.get(role, role) if sharegpt else role
    calls = message.get("tool_calls")
    return {"role": role, "content": content} | (
        {"tool_calls": [*calls]} if isinstance(calls, LISTS) and len(calls) else {}
    )


def _content(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, LISTS):
        return None
    parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(parts) if all(isinstance(part, str) for part in parts) else None


def encodes(text: str) -> bool:
    """Whether UTF-8 can encode the text. It cannot if the text has half of a surrogate pair without the other half."""
    return HALVES.search(text) is None
