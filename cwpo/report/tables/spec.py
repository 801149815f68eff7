"""Tables as data: items along sections, rows and columns; each item names its runs and its published numbers.

A cell is where a section, a row and a column meet: its runs are those that meet all their conditions, its published number the
one that meets all their conditions on paper_results.csv. Where two set the same condition the later one counts, in the order
section, row, column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from cwpo.report.inputs import datasets, select
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, label, paper_model, stands_for
from cwpo.report.tables.kinds import ARMS, Kind

T = TypeVar("T", str, tuple[str, str])
OBJECTIVES = {"dpo": "DPO", "ipo": "IPO", "rdpo": "rDPO"}


@dataclass(frozen=True)
class Item:
    """One section, row or column. `where`: column -> value of runs.csv and details.csv (None: blank).

    An `optional` item is left out where nothing of it ran.
    """

    label: str
    where: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


# From the runs of the table: the paper's items, then others that ran.
Axis = Callable[[pd.DataFrame], list[Item]]


@dataclass(frozen=True, eq=False)  # equal only to itself, so that filled tables can be cached by it
class Spec:
    """One table. `experiments`: the first that ran is shown, by default that of the table's name.

    `contrasts` are pairs of items whose difference is shown per section, over all sections, and for each value of the column
    `split`. `same` are columns that both must agree in, beside the data, the models, the objective and the seed.
    """

    name: str
    title: str
    about: str
    columns: Axis
    rows: tuple[Axis, ...]
    sections: tuple[Axis, ...] = ()
    experiments: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    contrasts: tuple[tuple[Item, Item], ...] = ()
    split: str = ""
    same: tuple[str, ...] = ()
    kind: Kind = ARMS

    @property
    def shown(self) -> tuple[str, ...]:
        return self.experiments or (self.name,)

    @property
    def published(self) -> tuple[str, ...]:
        """Each `source` in paper_results.csv."""
        return self.sources or (self.name,)


def join(items: Sequence[Item]) -> Item:
    """All conditions of some items, the later ones before the earlier, under all of their labels."""
    where: dict[str, Any] = {}
    paper: dict[str, str] = {}
    for item in items:
        where |= item.where
        paper |= item.paper
    return Item(", ".join(item.label for item in items if item.label), where, paper)


def fixed(*items: Item) -> Axis:
    """These items, whatever ran, but for the optional ones."""
    return lambda frame: [item for item in items if not item.optional or len(select(frame, item.where))]


def data(*names: str) -> Axis:
    """These data sets, then others that ran."""
    return lambda frame: [data_item(name) for name in [*names, *_other(names, datasets(frame))]]


def data_item(name: str) -> Item:
    return Item(DATA_NAMES.get(name, name), {"data": name}, {"dataset": name})


def models(*known: tuple[str, str], short: bool = False) -> Axis:
    """Pairs of the paper's (weak, strong) models, then other pairs that ran. `short`: named by the strong model alone."""

    def pairs(frame: pd.DataFrame) -> list[Item]:
        ran = sorted(set(frame[["weak", "strong"]].itertuples(index=False, name=None)))
        ours = {pair: (paper_model(pair[0]), paper_model(pair[1])) for pair in ran}
        return [
            Item(
                label(strong) if short else _pair_label(weak, strong),
                {"weak": weak, "strong": strong},
                {"weak": paper[0], "strong": paper[1]},
            )
            for paper, (weak, strong) in _known_first(known, ours)
        ]

    return pairs


def weak_models(*known: str) -> Axis:
    """The paper's weak models, then others that ran."""

    def items(frame: pd.DataFrame) -> list[Item]:
        ours = {name: paper_model(name) for name in sorted(set(frame["weak"]))}
        return [Item(label(n), {"weak": n}, {"weak": paper}) for paper, n in _known_first(known, ours)]

    return items


def _known_first(known: Sequence[T], ours: Mapping[T, T]) -> list[tuple[T, T]]:
    """(paper's model, ours): the known ones in their order, themselves where ours did not run; then the others that ran."""
    first = [(paper, mine) for paper in known for mine in [m for m in ours if ours[m] == paper] or [paper]]
    return first + [(paper, mine) for mine, paper in ours.items() if paper not in known]


def swept(column: str, words: str) -> Axis:
    """The values of a column that ran, in order; `words` is the format of their labels."""
    return lambda frame: [Item(words.format(value), {column: value}) for value in sorted(set(frame[column].dropna()))]


def objectives(frame: pd.DataFrame) -> list[Item]:
    """DPO, IPO and rDPO."""
    return [Item(title, {"objective": key}, {"objective": key}) for key, title in OBJECTIVES.items()]


def method(key: str, paper: str = "", *, optional: bool = False, **where: Any) -> Item:
    """A column: the arms of one method; `paper` is the method's name in paper_results.csv, if that is another."""
    return Item(METHOD_NAMES[key], {"method": key, **where}, {"method": paper or key}, optional)


def _pair_label(weak: str, strong: str) -> str:
    return f"{label(weak)} → {label(strong)}" + (f" ({weak} → {strong})" if stands_for(strong) != strong else "")


def _other(names: Sequence[str], ran: Sequence[str]) -> list[str]:
    return [name for name in ran if name not in names]
