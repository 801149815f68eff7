"""Reads prompt and responses of a row of a user's table: strings, lists of chat messages, or whole dialogues."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cwpo.data import dialogues
from cwpo.data.dialogues import HUMAN, Message, as_messages, encodes, replied, split_dialogue, turns, written
from cwpo.data.encoding import Text
from cwpo.errors import LeftOut, WrongRow

Value = str | list[Message]
PYTHON = ("[{'role':", "[{'content':", "[{'from':", "[{'value':")  # how str() writes a list of messages


class Texts(NamedTuple):
    """The texts of a pair. messages: the prompt's messages as JSON, or None where the row is plain text."""

    prompt: str
    first: str
    second: str
    messages: str | None = None


def pair_texts(prompt: Any, first: Any, second: Any, sides: Sequence[str] = ("first", "second")) -> Texts:
    """Returns the texts of a prompt and two responses. sides: the responses' column names, which error messages show.

    If any of the three is a list of messages, the texts get HH-RLHF's form: "\\n\\nHuman: hi\\n\\nAssistant:" and
    " hello". If responses are messages, a text prompt is read as a dialogue if it has this form, else as the user's
    turn. If the prompt is None, it is the common beginning of the responses, which must then be lists of messages or
    whole dialogues in this form. Whole dialogues that contain the given prompt are also split into prompt and response.
    Raises LeftOut for a pair that cannot be used, WrongRow for a wrong value.
    """
    asked, a, b = (_value(*cell) for cell in zip(("prompt", *sides), (prompt, first, second), strict=True))
    if isinstance(a, str) != isinstance(b, str):
        raise WrongRow(
            f"have text in one of the columns {' and '.join(sides)} and messages in the other; use one form in both",
            first,
            second,
        )
    if a == b:
        raise LeftOut("identical_responses")
    plain = isinstance(a, str) and not isinstance(asked, list)
    texts = (_plain if plain else _conversation)(asked, a, b)
    if not (texts.first.strip() and texts.second.strip()):
        raise LeftOut("empty_response")
    return texts


def kept_messages(record: Mapping[str, Any], prompt: Any) -> str | None:
    """Returns the row's `messages` (JSON written by annotate.py); None if missing, or not those of `prompt`."""
    kept = record.get("messages")
    messages = parsed(kept) if isinstance(kept, str) else None
    return kept if isinstance(messages, list) and written(messages) == prompt else None


def as_conversations(table: pd.DataFrame, *sides: str) -> list[list[Text]]:
    """Returns the prompts and, for each column in `sides`, the responses, all to be passed to `encode`.

    Rows with a value in the column `messages` give lists of messages, all others text.
    """
    kept = list(table["messages"]) if "messages" in table else [None] * len(table)

    def column(name: str, as_chat: Callable[[str, str], Text]) -> list[Text]:
        return [as_chat(t, m) if isinstance(m, str) else t for t, m in zip(table[name], kept, strict=True)]

    prompts = column("prompt", lambda _, messages: json.loads(messages))
    return [prompts, *(column(side, lambda text, _: dialogues.replies(text)) for side in sides)]


def _value(name: str, cell: Any) -> Value | None:
    """Returns a cell as text or messages, or None for a missing prompt. Raises LeftOut for a missing response.

    Raises WrongRow for a cell that is neither text nor messages, and for messages printed by Python instead of as JSON.
    """
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        if name == "prompt":
            return None
        raise LeftOut(f"missing_{name}")
    value = parsed(cell)
    if value is None:
        raise WrongRow(f"have a {name} that is neither text nor a list of messages with role and content", cell)
    if isinstance(value, str) and value.startswith(PYTHON):
        raise WrongRow(f"have a {name} with messages as Python prints them; write them as JSON (json.dumps)")
    return value


def _plain(asked: Any, a: Any, b: Any) -> Texts:
    first, second = split_dialogue(a), split_dialogue(b)
    whole = first and second and a.startswith(HUMAN) and b.startswith(HUMAN)
    if asked is not None and not (first and whole and asked.strip() in first[0]):
        return Texts(asked, a, b)
    if first is None:
        raise LeftOut("missing_prompt")
    if second is None or first[0] != second[0]:
        raise LeftOut("prompts_differ")
    return Texts(*first, second[1])


def _conversation(asked: Any, a: Any, b: Any) -> Texts:
    if isinstance(a, str):
        a, b = ([{"role": "assistant", "content": text.removeprefix(" ")}] for text in (a, b))
    shared = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    begun, a, b = a[:shared], a[shared:], b[shared:]
    if isinstance(asked, str):
        same = bool(begun) and begun[-1] == {"role": "user", "content": asked}
        asked = begun if same else turns(asked)
    asked = _beginning(asked or [], begun)
    if not a or not b:
        raise LeftOut("empty_response")
    if a[0]["role"] != "assistant" or b[0]["role"] != "assistant":
        raise LeftOut("prompts_differ")
    if not asked:
        raise LeftOut("missing_prompt")
    if any(len(dialogues.replies(replied(side))) > len(side) for side in (a, b)):
        raise LeftOut("speaker_in_response")  # `replies` would read its text as several turns
    return Texts(written(asked), replied(a), replied(b), json.dumps(asked, ensure_ascii=False, default=str))


def _beginning(asked: list[Any], begun: list[Any]) -> list[Any]:
    """Returns the messages that both responses answer. The first rule that applies decides; if none does: LeftOut.

    asked: the prompt. begun: the common beginning of the two lists of messages in the response columns.
    - `asked` is empty, or `begun` begins or ends with it: `begun`
    - `begun` is empty, or `asked` ends with it, or it is the first message of `asked`: `asked`
    - `begun` begins with an assistant's message: `asked` + `begun`
    - `begun` is one system message, and `asked` does not begin with one: `begun` + `asked`
    - `begun` is one message of another role: `asked`
    """
    if not asked or begun[: len(asked)] == asked or begun[-len(asked) :] == asked:
        return begun or asked
    if not begun or begun in (asked[-len(begun) :], asked[:1]):
        return asked
    if begun[0]["role"] == "assistant":
        return asked + begun
    if len(begun) == 1 and begun[0]["role"] == "system" != asked[0]["role"]:
        return begun + asked
    if len(begun) > 1 or begun[0]["role"] == "system":
        raise LeftOut("prompts_differ")
    return asked


def parsed(value: Any) -> Value | None:
    """Returns messages if the value is a list of messages or the JSON of one, and any other text unchanged.

    Returns None for text that UTF-8 cannot encode, and for all other values.
    """
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
