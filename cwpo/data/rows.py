"""Reads a user's rows as pairs: one reader for all commands, so that a file means the same pairs everywhere."""

import json
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cwpo.data.dialogues import TURN, replies
from cwpo.data.encoding import Text
from cwpo.data.files import Row, records
from cwpo.data.labels import vote_share
from cwpo.data.layouts import OWN, TableLayout, layout_of
from cwpo.data.own_texts import Texts, kept_messages, pair_texts, parsed
from cwpo.errors import InputError, LeftOut, WrongRow, nearest
from cwpo.plain import visible

SIDES = (("response_a", "response_b"), ("chosen", "rejected"))
JUDGED = ("label", "votes")
KNOWN = ("prompt", *SIDES[0], *SIDES[1], *JUDGED, "domain")
SHOWN = 5  # number of rows that a message names for each kind of problem


class Pair(NamedTuple):
    """A pair of a user's table. share: the first response's share of votes, NaN without votes.

    ordered: whether the table calls its responses chosen and rejected; then the first response is the chosen one.
    """

    texts: Texts
    share: float
    n_votes: int
    ordered: bool
    domain: str

    @property
    def label(self) -> str:
        if not self.n_votes:
            return "none"
        return "chosen" if self.ordered else "a" if self.share > 0.5 else "b" if self.share < 0.5 else "tie"

    def turned(self) -> "Pair":
        """Returns the same pair with its responses exchanged."""
        prompt, first, second, messages = self.texts
        return self._replace(texts=Texts(prompt, second, first, messages), share=1 - self.share)


@dataclass
class Converted:
    """How a table was read. read: number of rows. kept: number of pairs kept. labeled: number of these with a label.

    dropped: reason -> row numbers. wrong: problem -> (row number, values as text). columns: the table's. unused: those
    that are ignored, if the layout is OWN. meaning: layout and columns in words. labels: Pair.label -> number of rows.
    """

    read: int = 0
    kept: int = 0
    labeled: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    meaning: str = ""
    labels: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, row: int) -> None:
        self.dropped.setdefault(reason, []).append(row)

    def refuse(self, problem: str, row: int, *values: Any) -> None:
        """Records the problem of a row, a text "have <what is wrong>; <fix>", and the values to show to the user."""
        rows = self.wrong.setdefault(problem, [])
        shown = ", ".join(map(reprlib.repr, values)) if len(rows) < SHOWN else ""
        rows.append((row, visible(shown)))

    def drops(self) -> str:
        """Returns, as one text, each reason for drops with the number of rows and the first row numbers."""
        each = (f"{reason} {len(rows)} (row {_first(rows)})" for reason, rows in self.dropped.items())
        return "; ".join(each) or "none"

    def problems(self, path: str) -> list[str]:
        """Returns one line for each problem: its rows with their values, the reason and the fix."""
        lines = []
        for problem, rows in self.wrong.items():
            named = _first([f"{row} ({value})" if value else row for row, value in rows])
            has = problem if len(rows) > 1 else problem.replace("have", "has", 1)
            lines.append(f"{path}: row{'s' if len(rows) > 1 else ''} {named} {has}")
        return lines


class PairReader:
    """Reads the rows of one table as pairs. `done`, a Converted, counts rows and lists the dropped and the wrong ones.

    columns: our name (one of KNOWN) -> the table's name. positive: "a" or "b", the response that a label of 1 or true
    prefers. at: the prefix of these settings' names in messages, such as "data.". layout: gives the columns and
    `positive` that the caller does not give; default: the published layout that fits the table. texts: a function like
    pair_texts, which reads a row's prompt and responses. Raises InputError for wrong settings.
    """

    def __init__(
        self,
        path: str,
        columns: Mapping[str, str] | None = None,
        positive: str | None = None,
        *,
        at: str = "",
        layout: TableLayout | None = None,
        texts: Callable[..., Texts] = pair_texts,
    ) -> None:
        self.path, self.named, self.positive, self.at = path, dict(columns or {}), positive, at
        self.layout, self.texts, self.done = layout, texts, Converted()
        unknown = sorted({*self.named} - {*KNOWN})
        problems = [f"{at}columns.{name} is unknown; valid: {', '.join(KNOWN)}" for name in unknown]
        if positive not in (None, "a", "b"):
            why = "the response that a label of 1 or true prefers"
            problems.append(f"{at}positive={positive} must be a or b, {why}")
        if problems:
            raise InputError(problems)

    def read(self, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Pair | None, str, Row]]:
        """Yields (row number, pair, "", row), or (row number, None, reason, row) for a row that is left out.

        Skips rows with wrong values. Raises InputError for missing columns and, after the last row, for wrong values.
        """
        done, absent = self.done, {*self.named}
        for number, row in rows:
            done.read += 1
            if done.read == 1:
                self._begin(row)
            absent -= {ours for ours in absent if self.named[ours] in row}
            try:
                pair, reason = self.pair(row), ""
                done.labels[pair.label] += 1
            except LeftOut as left_out:
                pair, reason = None, str(left_out)
                done.drop(reason, number)
            except WrongRow as wrong:
                done.refuse(wrong.problem.replace(" positive=", f" {self.at}positive="), number, *wrong.values)
                continue
            yield number, pair, reason, row
        problems = done.problems(self.path)
        if done.read:  # checked last: later rows of JSON lines may have columns that the first one lacks
            problems += self._absent(absent)
        if problems:
            raise InputError(problems)

    def pair(self, row: Row) -> Pair:
        """Returns the pair in a row. Raises LeftOut if there is no usable pair, WrongRow if a value is wrong."""
        layout, names = self._columns(row)
        texts, ordered, cells = self.texts_of(row)
        domain = "" if cells["domain"] is None else str(cells["domain"])
        if ordered:
            return Pair(texts, cells.get("share", 1.0), 1, True, domain)
        label = cells["label"]
        if isinstance(label, str):  # it may be the name of a response's column in the table
            label = {names[side]: side for side in SIDES[0] if side in names}.get(label, label)
        counts = all(names.get(name, name) == name for name in (*SIDES[0], "label", "votes"))
        share = vote_share(label, cells["votes"], self.positive or layout.positive, counts=counts)
        return Pair(texts, *share, False, domain)

    def _columns(self, row: Row) -> tuple[TableLayout, dict[str, str]]:
        """Returns a row's layout, and {our column name: the table's name}. A column that is not listed has our name."""
        layout = self.layout or layout_of(frozenset(row), frozenset(self.named.items()))
        return layout, {**layout.columns, **self.named}

    def texts_of(self, row: Row) -> tuple[Texts, bool, dict[str, Any]]:
        """Returns a row's texts, whether its first response is `chosen`, and its cells: our column name -> cell."""
        layout, names = self._columns(row)
        cells = {ours: row.get(names.get(ours, ours)) for ours in KNOWN} | layout.compute(row)
        ordered = _chosen_first(cells)
        sides = SIDES[ordered]
        prompt, first, second = (cells[name] for name in ("prompt", *sides))
        if kept := kept_messages(row, prompt):  # responses of such a row may have several turns, written as text
            prompt = kept
            first, second = (replies(text) if isinstance(text, str) else text for text in (first, second))
        return self.texts(prompt, first, second, sides), ordered, cells

    def _begin(self, row: Row) -> None:
        """Records the first row's columns and their meaning in `done`. Raises InputError if they cannot hold a pair."""
        layout, names = self._columns(row)
        self.done.columns = [str(name) for name in row]
        have = {ours for ours in KNOWN if names.get(ours, ours) in row}
        ordered = _chosen_first({ours: row.get(names.get(ours, ours)) for ours in KNOWN})  # `chosen` is the label then
        if layout is OWN:
            used = {names.get(ours, ours) for ours in KNOWN if not (ordered and ours in JUDGED)}
            self.done.unused = [str(name) for name in row if name not in used]
        if ordered and (ignored := [ours for ours in JUDGED if self.named.get(ours) in row]):
            better, worse = (names.get(side, side) for side in SIDES[1])
            raise InputError(
                f"{self.at}columns.{ignored[0]}={self.named[ignored[0]]} would be ignored: {better} of {self.path} "
                "is, by its name, the better response; leave this setting out, or set "
                f"+{self.at}columns.response_a={better} and +{self.at}columns.response_b={worse}"
            )
        positive = self.positive or layout.positive
        means = [layout.name, *(f"{ours} is {theirs}" for ours, theirs in names.items() if ours != theirs)]
        means += [f"1 or true prefers response_{positive}"] if positive else []
        self.done.meaning = "; ".join(means)
        if layout is not OWN:
            return
        sides = next((pair for pair in SIDES if {*pair} <= have), None)
        first = row[names.get(sides[0], sides[0])] if sides else None
        if sides is None or ("prompt" not in have and isinstance(text := parsed(first), str) and TURN not in text):
            needs = (
                f"{self.path} needs the columns prompt, response_a, response_b, or prompt, chosen, rejected; it has "
                f"{', '.join(self.done.columns) or 'none'}. Name yours with +{self.at}columns.prompt=... and so on, "
                f"people's labels with +{self.at}columns.label=..."
            )
            absent = {ours for ours, theirs in self.named.items() if theirs not in row}
            raise InputError([needs, *self._absent(absent)])

    def _absent(self, names: Iterable[str]) -> list[str]:
        places = {ours: f"{self.named[ours]} ({self.at}columns.{ours})" for ours in sorted(names)}
        known = self.done.columns
        return [
            f"{self.path} has no column {place}; {nearest(self.named[ours], known)}" for ours, place in places.items()
        ]


def read_prompts(path: str, column: str, split: str | None = None) -> Iterator[Text]:
    """Yields the prompt, text or messages, of each row in a table of pairs, or in a table of prompts.

    column: the prompts' column. split: as in the function records. In a row without `column`, the prompt is what both
    responses have in common at their beginning. The row is skipped if they have nothing in common, are equal, or have
    an empty answer. Raises InputError for any other row without a prompt.
    """
    reader = PairReader(path, {} if column == "prompt" else {"prompt": column})
    for number, row in records(path, split):
        try:
            texts, *_ = reader.texts_of(row)
            prompt = texts.prompt if texts.messages is None else json.loads(texts.messages)
        except (LeftOut, WrongRow) as why:
            prompt = parsed(row.get(column))
            if prompt is None and str(why) in ("prompts_differ", "identical_responses", "empty_response"):
                continue
        if prompt is None:
            raise InputError(
                f"{path} row {number}: the column {column} is missing, or is neither text nor messages with role and content; it has "
                f"{', '.join(map(str, row))}. Name the column of the prompts with column="
            )
        yield prompt


def _chosen_first(cells: Mapping[str, Any]) -> bool:
    """Whether a row has `chosen` or `rejected` and no `response_a`. cells: our column name -> cell, None if missing."""
    return cells["response_a"] is None and any(cells[name] is not None for name in SIDES[1])


def _first(rows: Sequence[Any]) -> str:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(map(str, rows[:SHOWN])) + more
