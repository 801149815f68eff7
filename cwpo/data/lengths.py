"""Which pairs are short enough: by one of several rules, and in any case for every model that reads them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import first_turn
from cwpo.errors import InputError

Counts = np.ndarray
LOOKED_AT = 64  # texts that show whether a tokenizer knows their words


def token_counts(
    frame: pd.DataFrame,
    tokenizers: Iterable[Any],
    limit: int,
    *,
    rule: str = "longer_pair",
    context: int | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Tokens of each pair's longer sequence under the last tokenizer, and masks of the pairs unfit under any.

    `rule`, one of RULES, says what `limit` bounds; whatever it is, the sequences as the models read them must fit
    into `context` (None: any length). A prompt without a single token (empty, and a tokenizer without BOS) leaves nothing
    to predict the response's first token from.
    """
    from cwpo.data.batching import encode, encode_prompts

    no_prompt = np.zeros(len(frame), dtype=bool)
    prompt_long = np.zeros(len(frame), dtype=bool)
    pair_long = np.zeros(len(frame), dtype=bool)
    longest = np.zeros(len(frame), dtype=np.int64)
    if not len(frame):
        return longest, {"empty_prompt": no_prompt, "prompt_too_long": prompt_long, "too_long": pair_long}
    most = limit if rule == "longer_pair" else np.inf if context is None else context
    for tokenizer in tokenizers:
        prompts = frame["prompt"].tolist()
        prompt_lengths = np.array([len(ids) for ids in encode_prompts(tokenizer, prompts)])
        no_prompt |= prompt_lengths == 0
        prompt_long |= prompt_lengths >= most
        longest = np.maximum.reduce(
            [
                [len(ids) for ids, _ in encode(tokenizer, prompts, frame[side].tolist())]
                for side in ("response_a", "response_b")
            ]
        )
        pair_long |= longest > most
        if rule != "longer_pair":
            pair_long |= RULES[rule](tokenizer, frame) > limit
    pair_long &= ~(prompt_long | no_prompt)
    return longest, {"empty_prompt": no_prompt, "prompt_too_long": prompt_long, "too_long": pair_long}


def check_words(tokenizer: Any, texts: Sequence[str], whose: str) -> None:
    """InputError where a tokenizer (`whose` names it) knows no word of the first texts, and would read all alike."""
    some = [text for text in texts if text.strip()][:LOOKED_AT]
    ids = (
        {token for row in tokenizer(some, add_special_tokens=False)["input_ids"] for token in row}
        if some
        else set()
    )
    unknown = getattr(tokenizer, "unk_token_id", None)
    if (
        not some
        or (ids and unknown not in ids)
        or any(tokenizer.decode([i]).strip() for i in ids - {unknown})
    ):
        return
    raise InputError(
        f"the tokenizer of {whose} knows no word of the data, as in {some[0][:40]!r}; take a model for this language, and "
        "the tokenizer that belongs to it"
    )


def plain_tokens(tokenizer: Any, texts: Sequence[str]) -> Counts:
    """Tokens of each text as it stands: no BOS, no EOS, no chat template."""
    return np.array([len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]])


def _full_texts(tokenizer: Any, frame: pd.DataFrame) -> list[Counts]:
    """Of prompt + response in one text, for each side."""
    return [plain_tokens(tokenizer, (frame["prompt"] + frame[f"response_{side}"]).tolist()) for side in "ab"]


def _characters(tokenizer: Any, frame: pd.DataFrame) -> Counts:
    """Of the first human turn and the longer response, as they stand in the row; no tokenizer matters."""
    responses = np.maximum(frame["response_a"].str.len(), frame["response_b"].str.len())
    return (frame["prompt"].map(first_turn).str.len() + responses).to_numpy()


# What data.length_rule may name -> the number, (N,), of tokens (`characters`: of characters) that data.max_tokens bounds.
RULES: dict[str, Callable[[Any, pd.DataFrame], Counts] | Any] = {
    "longer_pair": None,  # prompt and longer response as the models read them, with BOS and EOS
    "full_texts": lambda tokenizer, frame: np.maximum(*_full_texts(tokenizer, frame)),
    "prompt_and_responses": lambda tokenizer, frame: plain_tokens(
        tokenizer, (frame["prompt"] + frame["response_a"] + frame["response_b"]).tolist()
    ),
    "both_full_texts": lambda tokenizer, frame: np.add(*_full_texts(tokenizer, frame)),
    "characters": _characters,
}
