"""A user's rows as pairs: one reader for every command, so that a file means the same pairs and labels everywhere."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cwpo.data.dialogues import TURN
from cwpo.data.labels import is_absent, vote_share
from cwpo.data.layouts import OWN, Layout, Row, layout_of
from cwpo.data.own_texts import own_messages, pair_messages, pair_texts
from cwpo.errors import InputError
from cwpo.plain import visible

SIDES = (("response_a", "response_b"), ("chosen", "rejected"))
KNOWN = ("prompt", *SIDES[0], *SIDES[1], "label", "votes", "domain")
SHOWN = 5  # rows named for each kind of problem
# Three cells and the names of the last two -> ((prompt, first, second) or None, why the pair is left out, what is wrong)
Texts = Callable[[Any, Any, Any, Sequence[str]], tuple[tuple[str, str, str] | None, str, str]]


class Pair(NamedTuple):
    """share: of the votes, for the first response, NaN without votes. ordered: the table itself calls the first one chosen."""

    prompt: str
    first: str
    second: str
    share: float
    n_votes: int
    ordered: bool
    domain: str
    messages: str | None  # the prompt's, as JSON; None where the row is plain text

    @property
    def label(self) -> str:
        if not self.n_votes:
            return "none"
        return "chosen" if self.ordered else "a" if self.share > 0.5 else "b" if self.share < 0.5 else "tie"


@dataclass
class Converted:
    """How a table was read: rows, kept pairs, pairs with a label, and the rows of each drop reason and each problem."""

    read: int = 0
    kept: int = 0
    labeled: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    meaning: str = ""
    labels: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, row: int) -> None:
        self.dropped.setdefault(reason, []).append(row)

    def refuse(self, problem: str, row: int, *values: Any) -> None:
        """Note what is wrong with a row, as "have ...; the fix", and the values that messages show."""
        rows = self.wrong.setdefault(problem, [])
        shown = ", ".join(map(reprlib.repr, values)) if len(rows) < SHOWN else ""
        rows.append((row, visible(shown)))

    def drops(self) -> str:
        """The drop reasons with their counts and first rows."""
        each = (f"{reason} {len(rows)} (row {_first(rows)})" for reason, rows in self.dropped.items())
        return "; ".join(each) or "none"

    def problems(self, path: str) -> list[str]:
        """One line for each problem: its rows with their values, the reason and the fix."""
        lines = []
        for problem, rows in self.wrong.items():
            named = _first([f"{row} ({value})" if value else row for row, value in rows])
            has = problem if len(rows) > 1 else problem.replace("have", "has", 1)
            lines.append(f"{path}: row{'s' if len(rows) > 1 else ''} {named} {has}")
        return lines


class PairReader:
    """Reads the rows of one table as pairs, and counts in `done` what it leaves out and what is wrong.

    columns: our name (one of KNOWN) -> the table's; positive: "a" or "b", the response that a label of 1 or true prefers;
    `at` precedes the names of these two settings in messages. What they leave open a published layout tells: the given one,
    or the one that has the table's columns. texts: makes texts of a row's three cells. Raises InputError for wrong settings.
    """

    def __init__(
        self,
        path: str,
        columns: Mapping[str, str] | None = None,
        positive: str | None = None,
        *,
        at: str = "",
        layout: Layout | None = None,
        texts: Texts = pair_texts,
    ) -> None:
        self.path, self.named, self.positive, self.at = path, dict(columns or {}), positive, at
        self.layout, self.texts, self.done = layout, texts, Converted()
        self.layouts: dict[tuple[str, ...], Layout] = {}
        problems = [
            f"{at}columns.{name} is unknown; valid: {', '.join(KNOWN)}"
            for name in sorted({*self.named} - {*KNOWN})
        ]
        if positive not in (None, "a", "b"):
            problems.append(
                f"{at}positive={positive} must be a or b, the response that a label of 1 or true prefers"
            )
        if problems:
            raise InputError(problems)

    def read(self, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Pair | None, str, Row]]:
        """(number, pair or None, why the pair is left out, row) of every row without a problem.

        Raises InputError for missing columns and, after the last row, with all problems of the rows.
        """
        done, absent = self.done, {*self.named}
        for number, row in rows:
            done.read += 1
            if done.read == 1:
                self._begin(row)
            absent -= {ours for ours in absent if self.named[ours] in row}
            pair, reason, problem, values = self._pair(row)
            if problem:
                done.refuse(problem.replace(" positive=", f" {self.at}positive="), number, *values)
                continue
            if pair is None:
                done.drop(reason, number)
            else:
                done.labels[pair.label] += 1
            yield number, pair, reason, row
        problems = done.problems(self.path)
        if done.read:  # the first of JSON lines may lack a column that later ones have
            problems += self._absent(absent)
        if problems:
            raise InputError(problems)

    def _absent(self, names: Iterable[str]) -> list[str]:
        return [
            f"{self.path} has no column {self.named[ours]} ({self.at}columns.{ours})"
            for ours in sorted(names)
        ]

    def _layout(self, row: Row) -> Layout:
        if self.layout is not None:
            return self.layout
        have = tuple(row)
        if have not in self.layouts:
            self.layouts[have] = layout_of(have, self.named)
        return self.layouts[have]

    def _begin(self, row: Row) -> None:
        """Note the columns of the first row and what they mean; InputError where they hold no pair."""
        layout = self._layout(row)
        names = {**layout.columns, **self.named}
        self.done.columns = [str(name) for name in row]
        positive = self.positive or layout.positive
        means = [layout.name, *(f"{ours} is {theirs}" for ours, theirs in names.items() if ours != theirs)]
        means += [f"1 or true prefers response_{positive}"] if positive else []
        self.done.meaning = "; ".join(means)
        if layout is not OWN:
            return
        have = {ours for ours in KNOWN if names.get(ours, ours) in row}
        sides = next((pair for pair in SIDES if {*pair} <= have), None)
        first = row[names.get(sides[0], sides[0])] if sides else None
        if sides is None or ("prompt" not in have and isinstance(first, str) and TURN not in first):
            have_not = {ours for ours, theirs in self.named.items() if theirs not in row}
            raise InputError(
                [
                    f"{self.path} needs the columns prompt, response_a, response_b, or prompt, chosen, rejected; it has "
                    f"{', '.join(self.done.columns) or 'none'}. Name yours with +{self.at}columns.prompt=... and so on",
                    *self._absent(have_not),
                ]
            )

    def _pair(self, row: Row) -> tuple[Pair | None, str, str, list[Any]]:
        """(the pair, why it is left out, what is wrong with the row, the values that show it)."""
        layout = self._layout(row)
        names = {**layout.columns, **self.named}
        computed = layout.compute(row)
        if "drop" in computed or "problem" in computed:
            return None, computed.get("drop", ""), computed.get("problem", ""), []
        cells = {ours: row.get(names.get(ours, ours)) for ours in KNOWN} | computed
        ordered = cells["response_a"] is None and any(cells[name] is not None for name in SIDES[1])
        sides = SIDES[ordered]
        if ordered:
            share, n_votes = 0.5 if computed.get("label") == "tie" else 1.0, 1
        else:
            ours = all(names.get(name, name) == name for name in (*SIDES[0], "label", "votes"))
            label = cells["label"]
            if isinstance(label, str):  # the name of a response's own column
                label = {names[side]: side for side in sides if side in names}.get(label, label)
            share, n_votes, problem = vote_share(
                label, cells["votes"], self.positive or layout.positive, counts=ours
            )
            if problem:
                return (
                    None,
                    "",
                    problem,
                    [cells[name] for name in ("label", "votes") if not is_absent(cells[name])],
                )
        given = own_messages(row) or cells["prompt"], cells[sides[0]], cells[sides[1]]
        texts, reason, problem = self.texts(*given, sides)
        if texts is None:
            return (
                None,
                reason,
                problem,
                [cells[n] for n in ("prompt", *sides) if not isinstance(cells[n], str | None)],
            )
        domain = "" if cells["domain"] is None else str(cells["domain"])
        messages = pair_messages(*given) if self.texts is pair_texts else None
        return Pair(*texts, share, n_votes, ordered, domain, messages), "", "", []


def _first(rows: Sequence[Any]) -> str:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(map(str, rows[:SHOWN])) + more
