"""Chat messages, and the same as dialogues in plain text as HH-RLHF writes them."""

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
LISTS = (list, tuple, np.ndarray)  # pandas gives the lists of a Parquet file as arrays
Message = dict[str, Any]  # role and content, both text; tool_calls where the message has some


def split_dialogue(text: str) -> tuple[str, str] | None:
    """The dialogue up to and with its last assistant turn's name, and that turn's text; None where it has no such turn."""
    head, turn, response = text.rpartition(TURN)
    return (head + turn, response) if turn else None


def first_turn(prompt: str) -> str:
    """The text of a dialogue's first human turn, its leading space included; any other text as it is."""
    before, *parts = SPEAKER.split(prompt)
    return parts[parts.index("Human") + 1] if not before and "Human" in parts[::2] else prompt


def cut_to_first_turn(value: Any) -> Any:
    """A dialogue, text or messages, with its first human turn and its last response alone; anything else as it is.

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
    """Messages as the prompt of the assistant's next turn: "\\n\\nHuman: hi\\n\\nAssistant:"."""
    return _joined(messages) + TURN


def replied(messages: Iterable[Mapping[str, Any]]) -> str:
    """The messages behind `written`'s prompt, from the assistant's on: " hello", one space before what it says."""
    return _joined(messages).removeprefix(TURN)


def _joined(messages: Iterable[Mapping[str, Any]]) -> str:
    """One turn for each message, with its content, or with its calls where it only calls tools."""
    turns = []
    for message in messages:
        role, content, calls = message["role"], message["content"], message.get("tool_calls")
        if calls and not content:
            content = json.dumps(calls, ensure_ascii=False, default=str)
        turns.append(f"\n\n{SPEAKERS.get(role, role.title())}: {content}")
    return "".join(turns)


def replies(text: str) -> list[Message]:
    """The messages whose text `replied` gives; the assistant's first."""
    first, *parts = SPEAKER.split(text)
    said = [("Assistant", first), *zip(parts[::2], parts[1::2], strict=True)]
    return [{"role": ROLES[name], "content": content.removeprefix(" ")} for name, content in said]


def turns(prompt: str) -> list[Message]:
    """The prompt as messages. Text without speakers is what the user says; white space around contents is removed.

    "\\n\\nHuman: hi\\n\\nAssistant: hello\\n\\nHuman: how?\\n\\nAssistant:" gives user hi, assistant hello, user how?.
    Turns of one speaker that follow each other are one, for templates that want them by turns.
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
    """The value as a list of messages with role and content, or None if it is not a conversation.

    Read are role and content, and ShareGPT's from and value (human, gpt). A content may be text, None (of a message that
    calls tools), or parts of which each is text, [{"type": "text", "text": ...}].
    """
    messages = [_message(message) for message in _items(value)]
    return [m for m in messages if m is not None] if messages and None not in messages else None


def _message(message: Any) -> Message | None:
    if not isinstance(message, Mapping):
        return None
    sharegpt = "from" in message and "role" not in message
    who, what = ("from", "value") if sharegpt else ("role", "content")
    role, content = message.get(who), _content(message[what]) if what in message else None
    if not isinstance(role, str) or not role.strip() or content is None or not encodes(role + content):
        return None
    calls = _items(message.get("tool_calls"))
    role = SHAREGPT.get(role, role) if sharegpt else role
    return {"role": role, "content": content} | ({"tool_calls": calls} if calls else {})


def _content(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, LISTS):
        return None
    parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(parts) if all(isinstance(part, str) for part in parts) else None


def _items(value: Any) -> list[Any]:
    """The items of a list; none of anything else."""
    return list(value) if isinstance(value, LISTS) else []


def encodes(text: str) -> bool:
    """Whether a file can hold the text: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
