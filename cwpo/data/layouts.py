"""Published layouts of preference pairs, recognised by their columns: which columns hold a pair and what its label means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cwpo.data.labels import is_absent

Row = Mapping[str, Any]
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
WINNERS = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}


@dataclass(frozen=True)
class Layout:
    """A table that has all of `columns` (our name -> the table's) and of `more` is in this layout.

    positive: the response that a label of 1 or true prefers. compute: our columns as far as they follow from the whole row,
    and why the row cannot be used ("drop", a reason to count, or "problem").
    """

    name: str
    columns: Mapping[str, str]
    more: tuple[str, ...] = ()
    positive: str | None = None
    compute: Callable[[Row], dict[str, Any]] = lambda row: {}

    def fits(self, have: Iterable[str]) -> bool:
        return {*self.columns.values(), *self.more} <= {*have}


def _rated(row: Row) -> dict[str, Any]:
    """Of the rated generations the best and the worst, in the order of the row; equal ratings are a tie."""
    texts, ratings = row["generations"], row["ratings"]
    if not isinstance(texts, list) or not isinstance(ratings, list) or len(texts) != len(ratings):
        return {"problem": "have generations and ratings that are not lists of equal length"}
    if not all(is_absent(rating) or isinstance(rating, (int, float)) for rating in ratings):
        return {"problem": "have ratings that are not numbers"}
    rated = [i for i, rating in enumerate(ratings) if not is_absent(rating)]
    if len(rated) < 2:
        return {"drop": "fewer_than_2_ratings"}
    a, b = sorted(sorted(rated, key=lambda i: ratings[i])[:: len(rated) - 1])
    label = "tie" if ratings[a] == ratings[b] else "a" if ratings[a] > ratings[b] else "b"
    return {"response_a": texts[a], "response_b": texts[b], "label": label}


def _scored(row: Row) -> dict[str, Any]:
    """Equal scores are a tie. Where the rejected response has the higher score, the row contradicts itself."""
    names = next(pair for pair in SCORES if {*pair} <= {*row})
    try:
        gap = float(row[names[0]]) - float(row[names[1]])
    except (TypeError, ValueError):  # a score is missing: the columns' names say which response is preferred
        return {}
    return {"label": "tie"} if gap == 0 else {"drop": "scores_contradict"} if gap < 0 else {}


def _one_of_three(row: Row) -> dict[str, Any]:
    """The label is the column that holds 1; texts are lists with one entry a turn, written as JSON."""
    labels = [word for name, word in WINNERS.items() if str(row[name]).lower() in ("1", "1.0", "true")]
    if len(labels) != 1:
        return {"problem": f"have not exactly one 1 in {', '.join(WINNERS)}"}
    talks = {side: _talk(row["prompt"], row[side]) for side in ("response_a", "response_b")}
    return {"label": labels[0]} | ({"prompt": None, **talks} if all(talks.values()) else {})


def _talk(asked: Any, answered: Any) -> list[dict[str, str]] | None:
    """Two JSON lists, what the user and what the assistant says, as messages; None where they are none."""
    try:
        turns = zip(json.loads(asked), json.loads(answered), strict=True)
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    except (TypeError, ValueError, RecursionError):
        return None


CHOSEN = {"chosen": "chosen", "rejected": "rejected"}
# The first that fits counts.
LAYOUTS = (
    Layout(
        "Stanford SHP",
        {"prompt": "history", "response_a": "human_ref_A", "response_b": "human_ref_B", "label": "labels"},
        positive="a",
    ),
    Layout(
        "Chatbot Arena",
        {"response_a": "conversation_a", "response_b": "conversation_b", "label": "winner"},
    ),
    Layout(
        "Chatbot Arena, 55k",
        {name: name for name in ("prompt", "response_a", "response_b")},
        more=tuple(WINNERS),
        compute=_one_of_three,
    ),
    Layout(
        "PKU-SafeRLHF",
        {
            "prompt": "prompt",
            "response_a": "response_0",
            "response_b": "response_1",
            "label": "better_response_id",
        },
        positive="b",
    ),
    *(
        Layout("distilabel", {"prompt": prompt}, more=("generations", "ratings"), compute=_rated)
        for prompt in ("instruction", "prompt", "input")
    ),
    Layout(
        "Argilla's UltraFeedback",
        {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
        more=("chosen_avg_rating", "rejected_avg_rating"),
        compute=_scored,
    ),
    Layout(
        "Argilla's chosen and rejected",
        {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    ),
    *(Layout("chosen and rejected with scores", CHOSEN, more=scores, compute=_scored) for scores in SCORES),
    Layout("instruction, chosen, rejected", {"prompt": "instruction", **CHOSEN}),
    Layout(
        "instruction, response_a, response_b",
        {"prompt": "instruction", "response_a": "response_a", "response_b": "response_b"},
    ),
)
OWN = Layout("own columns", {})


def layout_of(have: Iterable[str], named: Mapping[str, str]) -> Layout:
    """The published layout of a table with the columns `have`; OWN where there is none.

    `named` are the columns that the user names; a layout is left aside where they contradict it.
    """
    have = {*have}
    fitting = (
        layout
        for layout in LAYOUTS
        if layout.fits(have)
        and all(layout.columns.get(ours, theirs) == theirs for ours, theirs in named.items())
    )
    return next(fitting, OWN)
