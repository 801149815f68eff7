"""Finds the pairs that are short enough, by one of several rules, for every model that reads them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import first_turn
from cwpo.data.encoding import encode, encode_prompts
from cwpo.errors import InputError

Counts = np.ndarray
LOOKED_AT = 64  # the most texts that check_words reads


def token_counts(
    frame: pd.DataFrame, tokenizers: Iterable[Any], limit: int, rule: str = "longer_pair", context: int | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the length of each of N pairs, (N,), and {reason: mask (N,) of pairs unfit for at least one tokenizer}.

    The length is that of the longer sequence, in tokens of the last tokenizer. `rule`, one of RULES, says what `limit`
    bounds. Under rules other than longer_pair, the models' sequences must also fit into `context` (None: any length). A
    prompt without tokens (empty text, no BOS) is unfit: there is nothing to predict the response's first token from.
    """
    unfit = {name: np.zeros(len(frame), bool) for name in ("empty_prompt", "prompt_too_long", "too_long")}
    longest = np.zeros(len(frame), dtype=np.int64)
    most = limit if rule == "longer_pair" else np.inf if context is None else context
    prompts, *sides = (frame[name].tolist() for name in ("prompt", "response_a", "response_b"))
    for tokenizer in tokenizers if prompts else ():
        head = np.array([len(ids) for ids in encode_prompts(tokenizer, prompts)])
        encoded = (encode(tokenizer, prompts, side) for side in sides)
        longest = np.max([[len(ids) for ids, _ in rows] for rows in encoded], axis=0)
        unfit["empty_prompt"] |= head == 0
        unfit["prompt_too_long"] |= head >= most
        unfit["too_long"] |= longest > most
        if rule != "longer_pair":
            unfit["too_long"] |= RULES[rule](tokenizer, frame) > limit
    unfit["too_long"] &= ~(unfit["prompt_too_long"] | unfit["empty_prompt"])
    return longest, unfit


def check_words(tokenizer: Any, texts: Sequence[str], whose: str) -> None:
    """Raises InputError, which names the model `whose`, if the tokenizer knows no word of the texts.

    Only the first LOOKED_AT non-blank texts are checked.
    """
    some = [text for text in texts if text.strip()][:LOOKED_AT]
    rows = tokenizer(some, add_special_tokens=False)["input_ids"] if some else []
    ids, unknown = {token for row in rows for token in row}, getattr(tokenizer, "unk_token_id", None)
    if not some or (ids and unknown not in ids):
        return
    if not any(tokenizer.decode([token]).strip() for token in ids - {unknown}):
        raise InputError(
            f"the tokenizer of {whose} knows no word of the data, as in {some[0][:40]!r}; take a model for this language, and "
            "the tokenizer that belongs to it"
        )


def plain_tokens(tokenizer: Any, texts: Sequence[str]) -> Counts:
    """Returns the number of tokens of each text, (N,), without BOS, EOS or chat template."""
    return np.array([len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]])


def _full_texts(tokenizer: Any, frame: pd.DataFrame) -> list[Counts]:
    """Returns two arrays, for responses `a` and `b`: the number of tokens, (N,), of prompt + response as one text."""
    return [plain_tokens(tokenizer, (frame["prompt"] + frame[f"response_{side}"]).tolist()) for side in "ab"]


def _characters(tokenizer: Any, frame: pd.DataFrame) -> Counts:
    """Returns the number of characters, (N,), of first human turn + longer response; the tokenizer is not used."""
    responses = np.maximum(frame["response_a"].str.len(), frame["response_b"].str.len())
    return (frame["prompt"].map(first_turn).str.len() + responses).to_numpy()


# data.length_rule -> a function that returns the numbers, (N,), of tokens (or characters) that data.max_tokens bounds.
RULES: dict[str, Callable[[Any, pd.DataFrame], Counts] | Any] = {
    "longer_pair": None,  # prompt and longer response as the models read them, with BOS and EOS
    "full_texts": lambda tokenizer, frame: np.maximum(*_full_texts(tokenizer, frame)),
    "prompt_and_responses": lambda tokenizer, frame: plain_tokens(
        tokenizer, (frame["prompt"] + frame["response_a"] + frame["response_b"]).tolist()
    ),
    "both_full_texts": lambda tokenizer, frame: np.add(*_full_texts(tokenizer, frame)),
    "characters": _characters,
}
