"""Finds the pairs that are short enough, by one of several rules, for every model that reads them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import first_turn
from cwpo.data.encoding import encode, encode_prompts
from cwpo.errors import InputError

TEXTS = ("prompt", "response_a", "response_b")
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
    prompts, *sides = (frame[name].tolist() for name in TEXTS)
    for tokenizer in tokenizers if prompts else ():
        head = np.array([len(ids) for ids in encode_prompts(tokenizer, prompts)])
        encoded = (encode(tokenizer, prompts, side) for side in sides)
        longest = np.max([[len(ids) for ids, _ in rows] for rows in encoded], axis=0)
        unfit["empty_prompt"] |= head == 0
        unfit["prompt_too_long"] |= head >= most
        unfit["too_long"] |= longest > most
        if rule != "longer_pair":
            unfit["too_long"] |= RULES[rule](tokenizer, *(frame[name] for name in TEXTS)) > limit
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


def _tokens(tokenizer: Any, texts: pd.Series) -> np.ndarray:
    """Returns the number of tokens of each text, (N,), without BOS, EOS or chat template."""
    return np.array([len(ids) for ids in tokenizer(texts.tolist(), add_special_tokens=False)["input_ids"]])


# data.length_rule -> a function of a tokenizer and the columns q, a, b of N prompts and responses. It returns the
# numbers, (N,), of tokens (or characters) that data.max_tokens bounds.
RULES: dict[str, Any] = {
    "longer_pair": None,  # prompt and longer response as the models read them, with BOS and EOS
    "full_texts": lambda tokenizer, q, a, b: np.maximum(_tokens(tokenizer, q + a), _tokens(tokenizer, q + b)),
    "prompt_and_responses": lambda tokenizer, q, a, b: _tokens(tokenizer, q + a + b),
    "both_full_texts": lambda tokenizer, q, a, b: _tokens(tokenizer, q + a) + _tokens(tokenizer, q + b),
    # first human turn and longer response
    "characters": lambda _, q, a, b: (q.map(first_turn).str.len() + np.maximum(a.str.len(), b.str.len())).to_numpy(),
}
