"""Reads a label or a list of votes as the share of votes for response `a`, and orders pairs by a label.

A label without a meaning is an error.
"""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import LISTS
from cwpo.errors import WrongRow

# Words for the label -> share for response `a`. model_a, model_b and the two kinds of ties are Chatbot Arena's.
WORDS = {
    **dict.fromkeys(("a", "response_a", "model_a"), 1.0),
    **dict.fromkeys(("b", "response_b", "model_b"), 0.0),
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad"), 0.5),
}
NUMBERS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
NO_SIDE = 'that names no response; write "a", "b" or "tie"'
ONE_TWO = 'that names no response; where 1 and 2 are the responses, write "a" and "b"'
NO_MEANING = (
    "that is a number or true/false, and nothing says which response 1 or true prefers; set positive=a "
    '(response_a, the first) or positive=b (response_b, the second); where 1 and 2 are the responses, write "a" and "b"'
)


def vote_share(label: Any, votes: Any = None, positive: str | None = None, *, counts: bool = True) -> tuple[float, int]:
    """Returns (share of votes for response `a`, number of votes). Without votes, the label is the one vote.

    Votes are a list, or one text with commas or bars between votes; null votes are skipped. Without votes and label, it
    returns (NaN, 0). positive: "a" or "b", the response that a vote of 1 or true prefers. If it is None, true and false
    have no meaning, and 0 means `a` and 1 means `b` only if `counts`, as in tables with our column names.
    Raises WrongRow for a vote whose meaning is not known, and for votes that are neither a list nor text.
    """
    if isinstance(votes, str):
        votes = votes.replace("|", ",").split(",")
    if not isinstance(votes, LISTS):
        if not is_absent(votes):
            problem = "have votes that are no list; write a list of votes, or a text with commas between them"
            raise WrongRow(problem, votes)
        votes = []
    votes = [vote for vote in votes if not is_absent(vote)]
    cast = votes or ([] if is_absent(label) else [label])
    try:
        shares = [_share(vote, positive, counts) for vote in cast]
    except ValueError as error:
        raise WrongRow(f"have {'a vote' if votes else 'a label'} {error}", votes or label) from error
    return (float(np.mean(shares)) if shares else np.nan), len(shares)


def is_absent(value: Any) -> bool:
    """Whether a cell of a table is empty: null, NaN or blank text."""
    return (
        value is None
        or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))
        or (isinstance(value, str) and not value.strip())
    )


def chosen_rejected(pairs: pd.DataFrame, a_wins: Any) -> pd.DataFrame:
    """Returns `pairs` plus the columns `chosen` (response `a` where `a_wins`, else `b`), `rejected` (the other)."""
    a, b = pairs["response_a"], pairs["response_b"]
    return pairs.assign(chosen=a.where(a_wins, b), rejected=b.where(a_wins, a))


def _share(vote: Any, positive: str | None, counts: bool) -> float:
    """Returns 1 for a vote for response `a`, 0 for `b`, 0.5 for a tie. Raises ValueError for any other vote.

    positive, counts: as in vote_share.
    """
    word = str(vote).strip().lower() if isinstance(vote, (str, int, float, np.generic)) else ""
    if word in WORDS:
        return WORDS[word]
    if word not in NUMBERS:
        raise ValueError(ONE_TWO if word in ("2", "2.0") else NO_SIDE)
    if positive is None and (not counts or word in ("true", "false")):
        raise ValueError(NO_MEANING)
    return float(NUMBERS[word] == (positive == "a"))  # without `positive`, 0 prefers `a`
