"""Chat templates: whether a tokenizer's template formats the prompts, whether it works, and the formatted text."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from cwpo.data.dialogues import Message
from cwpo.errors import TextError

# A key of a tokenizer's init_kwargs, which are saved with the tokenizer; for its values see reads_chat.
CHAT = "reads_chat"
DAY = date(2024, 7, 26)  # Llama 3's templates write it where they cannot ask for today's date
NOW = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")  # what templates call for today's date


def reads_chat(tokenizer: Any) -> bool | None:
    """Returns which prompts the chat template formats: True: all, False: none, None: only lists of messages."""
    return getattr(tokenizer, "init_kwargs", {}).get(CHAT)


def chat_text(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False, no_thinking: bool = True
) -> str:
    """Returns the text of messages as the tokenizer's chat template formats them, with BOS if the template adds it.

    With `no_thinking`, models that can think before they answer are told not to, so that answers begin where the prompt
    ends. A template that writes today's date writes DAY instead, so that a prompt is the same in every stage, whenever
    it runs.
    """
    thinking = {"enable_thinking": False} if no_thinking else {}
    return tokenizer.apply_chat_template(
        list(messages),
        chat_template=NOW.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template()),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        **thinking,
    )


def chat_problem(tokenizer: Any) -> str | None:
    """Returns why the chat template cannot format prompts, in words ("has no chat template"), or None if it can."""
    if not getattr(tokenizer, "chat_template", None):
        return "has no chat template"
    asked = [{"role": "user", "content": "x"}]
    try:
        open_turn = chat_text(tokenizer, asked, add_generation_prompt=True)
        whole = chat_text(tokenizer, [*asked, {"role": "assistant", "content": "y"}])
    except Exception as error:  # a template can raise anything
        return f"has a chat template that fails: {' '.join(str(error).split())}"
    answer = whole.removeprefix(open_turn).lstrip()  # Llama 2's and Mistral's templates put a space before an answer
    if not (whole.startswith(open_turn) and answer.startswith("y")):
        return "has a chat template whose answer does not continue its prompt"
    if not answer.removeprefix("y").lstrip().startswith(tokenizer.eos_token):
        return (
            f"has a chat template whose turns do not end in its EOS token {tokenizer.eos_token}, so no response would end; set "
            "eos_token to what ends a turn"
        )
    return None


def read_as(chat: bool | None) -> str:
    """Returns, in words for reports, how prompts are formatted. `chat`: True if the chat template formats them."""
    return "written by the model's chat template" if chat else "plain text, messages as in HH-RLHF"


def rendered(tokenizer: Any, messages: Sequence[Message], index: int, open_turn: bool, no_thinking: bool = True) -> str:
    """Returns messages as text, formatted by the chat template. Raises TextError, which names row `index`, if it fails.

    open_turn: whether to add the beginning of the assistant's next turn. `no_thinking`: as in chat_text.
    """
    try:
        return chat_text(tokenizer, messages, open_turn, no_thinking)
    except Exception as error:  # a template can raise anything
        roles = ", ".join(message["role"] for message in messages)
        raise TextError(
            index,
            f"the chat template cannot format its messages ({roles}): {' '.join(str(error).split())}; mend the row, or use "
            "chat=false",
        ) from error
