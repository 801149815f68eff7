"""Converts prompts and responses to tokens and back, in the same way for training, sampling and log-probs.

A sequence is head + continuation + EOS. The head is the prompt's tokens, which chosen, rejected and sampled responses
share; `start`, its length, says where the response begins. Head and continuation decode to prompt + response.

If the tokens of the whole text, prompt + response, begin with the head, the continuation is the rest of them. With a
SentencePiece model (▁ stands for a space, and one is put before every text) "Once upon" + " a time" gives

    head   <s> ▁Once ▁upon              whole  <s> ▁Once ▁upon ▁a ▁time         →  <s> ▁Once ▁upon | ▁a ▁time </s>

and not ▁ ▁a ▁time, the tokens of " a time" alone, which spell two spaces. If tokens merge across the boundary, the
head stays as it is and the response is tokenised behind an anchor, a short text that does not merge with the response:

    "Once upon a ti" + "me there"       whole  <s> ▁Once ▁upon ▁a ▁time ▁there  →  <s> ▁Once ▁upon ▁a ▁t i | m e ▁there </s>

A tokenizer that defines no decoder (such as the synthetic world's, which splits words at white space) has no token for
a space; decoding puts one between any two tokens. Prompt and response are then tokenised and decoded separately.

A prompt or response may be text or a list of messages, {"role", "content"}. The tokenizer's chat template formats
messages, and also texts where `reads_chat` is True. Without a template, messages are formatted as in HH-RLHF.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cwpo.data.chat import chat_problem, reads_chat, rendered
from cwpo.data.dialogues import Message, as_messages, replied, turns, written
from cwpo.errors import InputError, TextError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

Text = str | Sequence[Mapping[str, Any]]
Encoded = tuple[Sequence[int], int]  # token ids, and where the response begins
ANCHORS = ("\n", ".", "a", "0", "中")  # one of these, at least, does not merge with a response's first character


@dataclass(frozen=True)
class Opened:
    """Encoded prompts. texts: formatted. heads: token ids. messages: None if no chat template formats the prompt."""

    texts: list[str]
    heads: list[list[int]]
    messages: list[list[Message] | None]
    prefix: list[int]  # the special tokens that the tokenizer puts before a plain text


def encode(tokenizer: Tokenizer, prompts: Sequence[Text], responses: Sequence[Text]) -> list[tuple[list[int], int]]:
    """Returns (token ids, prompt length) of each prompt + response: one BOS if the tokenizer has one, EOS at the end.

    Raises InputError for messages that the chat template cannot format. Warns if no tokens spell a response exactly.
    """
    return _continued(tokenizer, _opened(tokenizer, prompts), responses)


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[Text]) -> list[list[int]]:
    """Returns the token ids of each prompt. Sequences from `encode` begin with them, and sampling starts from them."""
    return _opened(tokenizer, prompts).heads


def encode_pairs(
    tokenizer: Tokenizer,
    prompts: Sequence[Text],
    chosen: Sequence[Text],
    rejected: Sequence[Text],
    **floats: Sequence[float],
) -> list[dict[str, Any]]:
    """Returns rows for PairCollator: chosen_ids, chosen_start, rejected_ids, rejected_start, and each of `floats`."""
    opened = _opened(tokenizer, prompts)
    sides = (_continued(tokenizer, opened, side) for side in (chosen, rejected))
    rows: list[dict[str, Any]] = [
        {"chosen_ids": c, "chosen_start": c_start, "rejected_ids": r, "rejected_start": r_start}
        for (c, c_start), (r, r_start) in zip(*sides, strict=True)
    ]
    for name, values in floats.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = float(value)
    return rows


def sampled(
    tokenizer: Tokenizer, prompts: Sequence[Text], heads: Sequence[list[int]], drawn: Sequence[tuple[list[int], bool]]
) -> list[dict[str, Any]]:
    """Returns one row per response. heads: the prompts' token ids. drawn: (sampled ids, whether EOS followed them).

    response: the text that follows the prompt when both are decoded. If a chat template formatted a text prompt, the
    response begins with a space, as in dialogues. n_tokens: number of sampled tokens, with EOS. truncated: True if no
    EOS was sampled. same_tokens: whether `encode` turns the response into exactly the sampled tokens. This can be
    False, because special tokens are missing in the text, and because a text has several tokenisations.
    """
    texts = []
    for prompt, head, (ids, _) in zip(prompts, heads, drawn, strict=True):
        text = text_behind(tokenizer, head, ids)
        spaced = isinstance(prompt, str) and reads_chat(tokenizer) and text and not text[0].isspace()
        texts.append(f" {text}" if spaced else text)
    again = encode(tokenizer, prompts, texts)
    return [
        {
            "response": text,
            "n_tokens": len(ids) + ended,
            "truncated": not ended,
            "same_tokens": row == head + ids + [tokenizer.eos_token_id],
        }
        for text, head, (ids, ended), (row, _) in zip(texts, heads, drawn, again, strict=True)
    ]


def text_behind(tokenizer: Tokenizer, head: list[int], ids: list[int]) -> str:
    """Returns the text that tokens `ids` add when they follow tokens `head`, without special tokens."""
    if _splits_words(tokenizer):
        return _spelt(tokenizer, ids)
    before, whole = _spelt(tokenizer, head), _spelt(tokenizer, head + ids)
    differ = (at for at, (x, y) in enumerate(zip(before, whole)) if x != y)
    return whole[next(differ, len(before)) :]


def plain_texts(prompt: Text, response: Text) -> tuple[str, str]:
    """Returns prompt and response as plain text; messages are formatted as in HH-RLHF."""
    text = response if isinstance(response, str) else replied(_checked(response))
    return prompt if isinstance(prompt, str) else written(_checked(prompt)), text


def whole_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Returns token ids of texts with the special tokens that the tokenizer adds; its BOS, if any, only once."""
    prefix = _prefix(tokenizer)
    ids = _token_ids(tokenizer, texts, add_special_tokens=True)
    return [prefix + _without(prefix, row) for row in ids]


def _opened(tokenizer: Tokenizer, prompts: Sequence[Text]) -> Opened:
    flag = reads_chat(tokenizer)
    templated = flag
    if flag is None and not all(isinstance(prompt, str) for prompt in prompts):
        templated = bool(getattr(tokenizer, "chat_template", None))
        problem = chat_problem(tokenizer) if templated else None
        if problem:
            raise InputError(
                f"the tokenizer {problem}; prompts that are messages need a template that works; mend it, or remove it "
                "(tokenizer.chat_template = None)"
            )
    prefix = _prefix(tokenizer)
    texts: list[str] = []
    messages: list[list[Message] | None] = []
    for index, prompt in enumerate(prompts):
        asked = turns(prompt) if isinstance(prompt, str) else _checked(prompt)
        chat = flag if isinstance(prompt, str) else templated
        texts.append(rendered(tokenizer, asked, index, True) if chat else plain_texts(prompt, "")[0])
        messages.append(asked if chat else None)
    heads = [
        prefix + _without(prefix, ids) if asked is None else ids
        for ids, asked in zip(_token_ids(tokenizer, texts), messages, strict=True)
    ]
    return Opened(texts, heads, messages, prefix)


def _continued(tokenizer: Tokenizer, opened: Opened, responses: Sequence[Text]) -> list[tuple[list[int], int]]:
    given = enumerate(zip(opened.texts, opened.messages, responses, strict=True))
    tails = [_reply(tokenizer, index, *each) for index, each in given]
    apart, eos = _splits_words(tokenizer), tokenizer.eos_token_id
    ids = _token_ids(tokenizer, tails) if apart else _continuations(tokenizer, opened, tails)
    rows = []
    for head, tail in zip(opened.heads, ids, strict=True):
        while tail and tail[-1] == eos:  # a response whose text already ends in the EOS token
            tail = tail[:-1]
        rows.append((head + tail + [eos], len(head)))
    return rows


def _reply(tokenizer: Any, index: int, opened: str, asked: list[Message] | None, response: Text) -> str:
    """Returns the text of a response as it follows the formatted prompt `opened`, without EOS.

    asked: the prompt's messages; None if no chat template formats prompt and response. index: the row that a TextError
    names.
    """
    if asked is None:
        return response if isinstance(response, str) else replied(_checked(response))
    # Templates put no space before what the assistant says; responses of dialogues begin with one.
    said = [{"role": "assistant", "content": response.strip()}] if isinstance(response, str) else response
    answer = _checked(said)
    whole = rendered(tokenizer, [*asked, *answer], index, False)
    if not whole.startswith(opened):
        raise TextError(
            index,
            "the chat template formats the prompt differently once a response follows, so the model would train on another "
            f"prompt than it samples from: without response {opened[:80]!r}, with response {whole[:80]!r}; change the "
            "template so that it formats the prompt the same in both cases",
        )
    rest = whole.removeprefix(opened)
    before, eos, behind = rest.rpartition(tokenizer.eos_token)
    return before if eos and not behind.strip() else rest  # templates may put a line end behind EOS


def _continuations(tokenizer: Tokenizer, opened: Opened, tails: Sequence[str]) -> list[list[int]]:
    """Returns the tokens of each tail (response text) after its prompt. Warns if they do not decode to the tail."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    joints = _token_ids(tokenizer, [text + tail for text, tail in zip(opened.texts, tails, strict=True)])
    result, inexact = [], []
    for index, (head, joint, tail) in enumerate(zip(opened.heads, joints, tails, strict=True)):
        if opened.messages[index] is None:
            joint = opened.prefix + _without(opened.prefix, joint)
        # If the head ends in the unknown token, this may stand for the response's first letters too.
        if joint[: len(head)] == head and (not head or head[-1] != unknown or not tail):
            result.append(joint[len(head) :])
            continue
        ids, exact = _anchored(tokenizer, head, joint, tail)
        result.append(ids)
        inexact += [] if exact else [index]
    if inexact:
        first = inexact[0]
        warnings.warn(
            f"{len(inexact)} of {len(tails)} responses cannot be spelt exactly behind their prompts by this tokenizer, first row "
            f"{first}: {opened.texts[first][-20:]!r} + {tails[first][:20]!r}; begin responses with a space",
            stacklevel=4,
        )
    return result


def _anchored(tokenizer: Any, head: list[int], joint: list[int], tail: str) -> tuple[list[int], bool]:
    """Returns token ids of `tail` to follow `head`, and whether head + these ids decode to the same text as `joint`.

    head: the token ids of the prompt. joint: those of prompt + tail, tokenised as one text.
    """
    wanted, first = _spelt(tokenizer, joint), None
    for anchor, ids in zip(ANCHORS, _token_ids(tokenizer, [a + tail for a in ANCHORS]), strict=True):
        (before,) = _token_ids(tokenizer, [anchor])
        if ids[: len(before)] != before:
            continue
        rest = ids[len(before) :]
        text = _spelt(tokenizer, head + rest)
        if text == wanted or _token_ids(tokenizer, [text]) == _token_ids(tokenizer, [wanted]):
            return rest, True
        first = rest if first is None else first
    (alone,) = _token_ids(tokenizer, [tail])
    return (alone if first is None else first), False


def _splits_words(tokenizer: Any) -> bool:
    """Whether decoding puts a space between any two tokens, as it does for a tokenizer that has no decoder."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return not hasattr(tokenizer, "decode") if backend is None else backend.decoder is None


def _spelt(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _prefix(tokenizer: Any) -> list[int]:
    """Returns the special tokens that the tokenizer puts before a text: its BOS, or an empty list."""
    framed = tokenizer(["a"])["input_ids"][0]
    bare = tokenizer(["a"], add_special_tokens=False)["input_ids"][0]
    starts = (at for at in range(len(framed)) if bare and framed[at : at + len(bare)] == bare)
    return list(framed[: next(starts, 0)])


def _without(prefix: list[int], ids: list[int]) -> list[int]:
    """Removes the prefix, and its repetitions, from the beginning of `ids`."""
    while prefix and ids[: len(prefix)] == prefix:
        ids = ids[len(prefix) :]
    return ids


def _token_ids(tokenizer: Any, texts: Sequence[str], add_special_tokens: bool = False) -> list[list[int]]:
    """Returns token ids of each text. Equal texts, as prompts often are, are tokenised once and share one list."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    rows = tokenizer(distinct, add_special_tokens=add_special_tokens)["input_ids"]
    ids = dict(zip(distinct, rows, strict=True))
    return [ids[text] for text in texts]


def _checked(value: Any) -> list[Message]:
    messages = as_messages(value)
    if messages is None:
        raise InputError(f"{str(value)[:80]!r} is neither text nor a list of messages with role and content")
    return messages
