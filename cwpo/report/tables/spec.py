"""Describes tables as data: sections, rows and columns are Items, which select runs and published numbers.

A cell is where a section, a row and a column meet. Its runs are those that meet the conditions of all three; its
published number is the row of paper_results.csv that meets them. If two of the three have a condition on one field, the
later one counts, in the order section, row, column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from cwpo.report.inputs import datasets, select
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, label, paper_model
from cwpo.report.tables.kinds import ARMS, Kind

OBJECTIVES = {"dpo": "DPO", "ipo": "IPO", "rdpo": "rDPO"}


@dataclass(frozen=True)
class Item:
    """One section, row or column of a table. `where` selects its runs or annotators: column -> value (None: blank).

    `paper` selects its rows of paper_results.csv. An `optional` item is left out of the table if it has no runs.
    """

    label: str
    where: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


# Maps the runs of a table to the items of its sections, rows or columns: first the paper's, then others that ran.
Axis = Callable[[pd.DataFrame], list[Item]]


@dataclass(frozen=True, eq=False)  # equal only to itself, so that filled tables can be cached by spec
class Spec:
    """Describes one table. It shows the first of `experiments` that has runs; by default the experiment `name`.

    `contrasts` are pairs of items (a, b): a − b is shown for each section and over all sections, also for each value of
    the column `split`. Compared runs have equal values in the columns `same` and `kind.same`.
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
        """The values of `source` in paper_results.csv that mark the paper's numbers of this table; default: `name`."""
        return self.sources or (self.name,)


def join(items: Sequence[Item]) -> Item:
    """Returns one item with the conditions and labels of all; of two conditions on one column, the later one counts."""
    where: dict[str, Any] = {}
    paper: dict[str, str] = {}
    for item in items:
        where |= item.where
        paper |= item.paper
    return Item(", ".join(item.label for item in items if item.label), where, paper)


def fixed(*items: Item) -> Axis:
    """Returns an axis of these items, whether they ran or not; optional ones only if they ran."""
    return lambda frame: [item for item in items if not item.optional or len(select(frame, item.where))]


def data(*names: str) -> Axis:
    """Returns an axis with an item for each of these data sets, then for each other one that ran."""
    return lambda frame: [data_item(name) for name in dict.fromkeys([*names, *datasets(frame)])]


def data_item(name: str) -> Item:
    return Item(DATA_NAMES.get(name, name), {"data": name}, {"dataset": name})


def models(*known: tuple[str, str], short: bool = False) -> Axis:
    """Returns an axis of (weak, strong) pairs: first the paper's pairs, given as `known`, then other pairs that ran.

    If `short`, the labels omit the weak model.
    """
    return partial(_models, ("weak", "strong"), known, (lambda weak, strong: label(strong)) if short else _pair_label)


def weak_models(*known: str) -> Axis:
    """Returns an axis of weak models: first the paper's models, given as `known`, then other models that ran."""
    return partial(_models, ("weak",), [(name,) for name in known], label)


def _models(
    columns: Sequence[str], known: Sequence[tuple[str, ...]], name: Callable[..., str], frame: pd.DataFrame
) -> list[Item]:
    """Returns an item for each of the paper's models in `known`, then for each other one in `columns` of `frame`.

    A "model" is a tuple of names, one for each of `columns`; `name` labels it. The item of a paper's model stands for
    our models that replace it; if there are none, for the model itself.
    """
    ours = {
        ran: tuple(map(paper_model, ran)) for ran in sorted(set(frame[[*columns]].itertuples(index=False, name=None)))
    }
    pairs = [(paper, ran) for paper in known for ran in [m for m in ours if ours[m] == paper] or [paper]]
    pairs += [(paper, ran) for ran, paper in ours.items() if paper not in known]
    return [Item(name(*ran), dict(zip(columns, ran)), dict(zip(columns, paper))) for paper, ran in pairs]


def swept(column: str, words: str) -> Axis:
    """Returns an axis with an item per value of `column`, sorted; `words`, e.g. `noise {:g}`, formats its label."""
    return lambda frame: [Item(words.format(value), {column: value}) for value in sorted(set(frame[column].dropna()))]


def method(key: str, paper: str = "", *, optional: bool = False, **where: Any) -> Item:
    """Returns the item for runs of method `key` with the values `where` in other columns.

    `paper`: the method's name in paper_results.csv, by default `key`.
    """
    return Item(METHOD_NAMES[key], {"method": key, **where}, {"method": paper or key}, optional)


def _pair_label(weak: str, strong: str) -> str:
    return f"{label(weak)} → {label(strong)}" + (
        f" ({weak} → {strong})" if label(strong).lower() not in strong.lower() else ""
    )
