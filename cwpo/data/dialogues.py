"""Dialogues as HH-RLHF writes them, and the same as turns for models that read a chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable

HUMAN = "\n\nHuman:"
TURN = "\n\nAssistant:"
SPEAKER = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {role: name for name, role in ROLES.items()}
Message = dict[str, str]  # role and content


def split_dialogue(text: str) -> tuple[str, str] | None:
    """The dialogue up to and with its last assistant turn's name, and that turn's text; None where it has no such turn."""
    head, turn, response = text.rpartition(TURN)
    return (head + turn, response) if turn else None


def written(messages: Iterable[tuple[str, str]]) -> str:
    """(role, content) messages as the prompt of the assistant's next turn."""
    return "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in messages) + TURN


def turns(prompt: str) -> list[Message]:
    """The prompt as messages. One that is no dialogue is what the user says; white space around contents goes.

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
