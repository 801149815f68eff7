"""Published layouts of preference pairs, recognised by column names: the columns of a pair, and what a label means."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cwpo.data.labels import is_absent
from cwpo.errors import LeftOut, WrongRow

Row = Mapping[str, Any]
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
WINNERS = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}


@dataclass(frozen=True)
class TableLayout:
    """A published layout. It fits a table that has all of `columns` (our name -> the table's name) and all of `more`.

    positive: the response, "a" or "b", that a label of 1 or true prefers; None if the layout has no such labels.
    compute: a function that computes cells from a row and returns {our name: cell}. If the chosen response's share of
    votes is not 1, the key `share` holds it. The function may raise LeftOut or WrongRow.
    """

    name: str
    columns: Mapping[str, str]
    more: tuple[str, ...] = ()
    positive: str | None = None
    compute: Callable[[Row], dict[str, Any]] = lambda row: {}


def _rated(row: Row) -> dict[str, Any]:
    """Returns response_a and response_b, the best- and worst-rated generations in the row's order, and the label.

    label: a, b or tie. Raises LeftOut for fewer than two ratings, WrongRow for lists or ratings of a wrong kind.
    """
    texts, ratings = row["generations"], row["ratings"]
    if not isinstance(texts, list) or not isinstance(ratings, list) or len(texts) != len(ratings):
        raise WrongRow("have generations and ratings that are not lists of equal length; give each generation a rating")
    if not all(is_absent(rating) or isinstance(rating, (int, float)) for rating in ratings):
        raise WrongRow("have ratings that are not numbers; write a number, or null, for each generation", ratings)
    rated = [i for i, rating in enumerate(ratings) if not is_absent(rating)]
    if len(rated) < 2:
        raise LeftOut("fewer_than_2_ratings")
    a, b = sorted(sorted(rated, key=lambda i: ratings[i])[:: len(rated) - 1])
    label = "tie" if ratings[a] == ratings[b] else "a" if ratings[a] > ratings[b] else "b"
    return {"response_a": texts[a], "response_b": texts[b], "label": label}


def _scored(row: Row) -> dict[str, Any]:
    """Returns share 0.5 (a tie) for equal scores, else {}. Raises LeftOut if the rejected response scores higher."""
    names = next(pair for pair in SCORES if {*pair} <= {*row})
    try:
        gap = float(row[names[0]]) - float(row[names[1]])
    except (TypeError, ValueError):  # a score is missing: the columns' names say which response is preferred
        return {}
    if gap < 0:
        raise LeftOut("scores_contradict")
    return {"share": 0.5} if gap == 0 else {}


def _one_of_three(row: Row) -> dict[str, Any]:
    """Returns {"label": the label of the WINNERS column that holds 1}. Raises WrongRow unless exactly one holds 1.

    If prompt and responses are JSON lists of turns, the result also has each response as the messages of its whole
    dialogue, and None as the prompt, which these messages contain.
    """
    labels = [word for name, word in WINNERS.items() if str(row[name]).lower() in ("1", "1.0", "true")]
    if len(labels) != 1:
        raise WrongRow(f"have 1 in none or several of {', '.join(WINNERS)}; write 1 in one and 0 in the others")
    try:
        talks = {name: _talk(row["prompt"], row[name]) for name in ("response_a", "response_b")}
    except (TypeError, ValueError, RecursionError):  # plain texts
        return {"label": labels[0]}
    return {"label": labels[0], "prompt": None, **talks}


def _talk(asked: str, answered: str) -> list[dict[str, str]]:
    """Merges two JSON lists of equal length, of the user's and the assistant's texts, into alternating messages."""
    both = zip(json.loads(asked), json.loads(answered), strict=True)
    rounds = (zip(("user", "assistant"), texts, strict=True) for texts in both)
    return [{"role": role, "content": text} for turns in rounds for role, text in turns]


CHOSEN = {"chosen": "chosen", "rejected": "rejected"}
SIDES = {"response_a": "response_a", "response_b": "response_b"}
ARGILLA = {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"}
SHP = {"prompt": "history", "response_a": "human_ref_A", "response_b": "human_ref_B", "label": "labels"}
ARENA = {"response_a": "conversation_a", "response_b": "conversation_b", "label": "winner"}
RESPONSES = {"response_a": "response_0", "response_b": "response_1"}
SAFE = {"prompt": "prompt", **RESPONSES, "label": "better_response_id"}
LAYOUTS = (
    TableLayout("Stanford SHP", SHP, positive="a"),
    TableLayout("Chatbot Arena", ARENA),
    TableLayout("Chatbot Arena, 55k", {"prompt": "prompt", **SIDES}, more=tuple(WINNERS), compute=_one_of_three),
    TableLayout("PKU-SafeRLHF", SAFE, positive="b"),
    *(
        TableLayout("distilabel", {"prompt": prompt}, more=("generations", "ratings"), compute=_rated)
        for prompt in ("instruction", "prompt", "input")
    ),
    TableLayout("Argilla's UltraFeedback", ARGILLA, more=SCORES[-1], compute=_scored),
    TableLayout("Argilla's chosen and rejected", ARGILLA),
    *(TableLayout("chosen and rejected with scores", CHOSEN, more=scores, compute=_scored) for scores in SCORES),
    TableLayout("instruction, chosen, rejected", {"prompt": "instruction", **CHOSEN}),
    TableLayout("instruction, response_a, response_b", {"prompt": "instruction", **SIDES}),
)
OWN = TableLayout("own columns", {})


@lru_cache
def layout_of(have: frozenset[str], named: frozenset[tuple[str, str]] = frozenset()) -> TableLayout:
    """Returns the first published layout that fits a table with the columns `have`, or OWN if none fits.

    named: (our name, the table's name) of the columns that the user named; layouts that contradict them are skipped.
    """
    agree = (layout for layout in LAYOUTS if all(layout.columns.get(o, t) == t for o, t in named))
    return next((layout for layout in agree if {*layout.columns.values(), *layout.more} <= have), OWN)
