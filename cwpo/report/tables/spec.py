"""What a table shows, as data: items along its sections, rows and columns, each with the runs and the published numbers it means.

A cell is where a section, a row and a column meet: its runs are those that meet all their conditions, its published number the
one that meets all their conditions on paper_results.csv. Where two set the same condition the later one counts, in the order
section, row, column; ANY lifts one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.inputs import DATA_NAMES, datasets
from cwpo.report.names import label, paper_model, stands_for
from cwpo.report.tables.kinds import ARMS, Kind

ANY = "*"
TOLERANCE = 1e-9
OBJECTIVES = {"dpo": "DPO", "ipo": "IPO", "rdpo": "rDPO"}


@dataclass(frozen=True)
class Item:
    """One section, row or column. `where`: column -> value of runs.csv and details.csv (None: blank; ANY: whatever it is)."""

    label: str
    where: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)


Axis = Callable[
    [pd.DataFrame], list[Item]
]  # from the runs of the table: the paper's items, then others that ran


@dataclass(frozen=True, eq=False)  # equal only to itself, so that a filled table can be kept
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


def select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that meet all conditions."""
    keep = np.ones(len(frame), dtype=bool)
    for column, wanted in where.items():
        if isinstance(wanted, str) and wanted == ANY:
            continue
        values = frame[column]
        if wanted is None:
            keep &= values.isna().to_numpy()
        elif isinstance(wanted, float):
            keep &= np.abs(values.to_numpy(dtype=float, na_value=np.nan) - wanted) < TOLERANCE
        else:
            keep &= (values == wanted).to_numpy(dtype=bool)
    return frame[keep]


def join(items: Sequence[Item]) -> Item:
    """All conditions of some items, the later ones before the earlier, under all of their labels."""
    where: dict[str, Any] = {}
    paper: dict[str, str] = {}
    for item in items:
        where |= item.where
        paper |= item.paper
    return Item(", ".join(item.label for item in items if item.label), where, paper)


def fixed(*items: Item) -> Axis:
    """These items, whatever ran."""
    return lambda frame: list(items)


def data(*names: str) -> Axis:
    """These data sets, then others that ran."""
    return lambda frame: [data_item(name) for name in [*names, *_other(names, datasets(frame))]]


def data_item(name: str) -> Item:
    return Item(DATA_NAMES.get(name, name), {"data": name}, {"dataset": name})


def models(*known: tuple[str, str], short: bool = False) -> Axis:
    """Pairs of the paper's (weak, strong) models, then other pairs that ran. `short`: named by the strong model alone."""

    def found(frame: pd.DataFrame) -> list[Item]:
        ran = sorted(set(frame[["weak", "strong"]].itertuples(index=False, name=None)))
        ours = {pair: (paper_model(pair[0]), paper_model(pair[1])) for pair in ran}
        ordered = [(pair, [o for o in ran if ours[o] == pair] or [pair]) for pair in known]
        ordered += [(ours[pair], [pair]) for pair in ran if ours[pair] not in known]
        return [
            Item(
                label(strong) if short else _pair_label(weak, strong),
                {"weak": weak, "strong": strong},
                {"weak": paper[0], "strong": paper[1]},
            )
            for paper, pairs in ordered
            for weak, strong in pairs
        ]

    return found


def weak_models(*known: str) -> Axis:
    """The paper's weak models, then others that ran."""

    def found(frame: pd.DataFrame) -> list[Item]:
        ran = sorted(set(frame["weak"]))
        ours = {name: paper_model(name) for name in ran}
        ordered = [(paper, [o for o in ran if ours[o] == paper] or [paper]) for paper in known]
        ordered += [(ours[name], [name]) for name in ran if ours[name] not in known]
        return [Item(label(n), {"weak": n}, {"weak": paper}) for paper, names in ordered for n in names]

    return found


def objectives(frame: pd.DataFrame) -> list[Item]:
    """DPO, IPO and rDPO."""
    return [Item(title, {"objective": key}, {"objective": key}) for key, title in OBJECTIVES.items()]


def method(key: str, title: str, paper: str = "", **where: Any) -> Item:
    """A column: an arm under one name; `paper` is the paper_results.csv name of its method where it is another."""
    return Item(title, {"method": key, **where}, {"method": paper or key})


def _pair_label(weak: str, strong: str) -> str:
    return f"{label(weak)} → {label(strong)}" + (
        f" ({weak} → {strong})" if stands_for(strong) != strong else ""
    )


def _other(names: Sequence[str], ran: Sequence[str]) -> list[str]:
    return [name for name in ran if name not in names]
