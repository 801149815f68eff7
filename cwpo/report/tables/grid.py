"""Fills tables: computes cells and differences from a spec and the results."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from cwpo.config.families import family
from cwpo.report.inputs import Results, paper_row, select
from cwpo.report.names import DATA_NAMES, label, model_size
from cwpo.report.tables.spec import OBJECTIVES, Axis, Item, Spec, join

Cell = dict[str, Any]
AVERAGE = "Average"


@dataclass(frozen=True)
class Section:
    """Rows under one heading; each row is (label, cells in the order of the columns)."""

    label: str
    rows: list[tuple[str, list[Cell]]]

    @property
    def ran(self) -> bool:
        return any("seeds" in cell for _, cells in self.rows for cell in cells)


@dataclass(frozen=True)
class Grid:
    """A filled table. `differences`: see Spec.contrasts; `seeds`, `commits` and `experiment` are those of its runs."""

    spec: Spec
    columns: list[str]
    sections: list[Section]
    differences: list[Cell]
    seeds: list[int]
    commits: pd.Series
    experiment: str

    @property
    def cells(self) -> list[Cell]:
        """All cells except those of the rows of averages."""
        return [cell for cell in self.all_cells if cell["row"] != AVERAGE]

    @property
    def all_cells(self) -> list[Cell]:
        return [cell for section in self.sections for _, cells in section.rows for cell in cells]

    @property
    def has_paper(self) -> bool:
        return any(pd.notna(cell["paper"]) for cell in self.cells)

    def frame(self) -> pd.DataFrame:
        """Returns one row per cell. The paper's numbers, if any, are in columns such as paper_gra and paper_gra_std."""
        table = pd.DataFrame(self.all_cells)
        main = self.spec.kind.main.name
        if not self.has_paper:
            return table.drop(columns=["paper", "paper_std"])
        return table.drop(columns="paper_std" if table["paper_std"].isna().all() else []).rename(
            columns={"paper": f"paper_{main}", "paper_std": f"paper_{main}_std"}
        )


@lru_cache(maxsize=128)
def fill(spec: Spec, results: Results) -> Grid | None:
    """Returns the table that `spec` describes; None if it has no runs. Cached, because figures show the same tables."""
    runs = spec.kind.frame(results, spec.shown)
    if not len(runs):
        return None
    published = results.paper[results.paper["source"].isin(spec.published)]
    columns = spec.columns(runs)
    lines = _crossed(spec.rows, runs)
    sections = []
    for heading in _crossed(spec.sections, runs):
        here = select(runs, heading.where)
        rows = [
            (line.label, [_cell(spec, results, here, published, (heading, line, column)) for column in columns])
            for line in lines
        ]
        if spec.kind.averages and len(lines) > 1:
            of_columns = zip(columns, zip(*(cells for _, cells in rows)))
            means = [_average(spec, results, here, (heading, lines, column), cells) for column, cells in of_columns]
            rows.append((AVERAGE, means))
        sections.append(Section(heading.label, rows))
    if not any(section.ran for section in sections):
        return None
    return Grid(
        spec,
        [column.label for column in columns],
        sections,
        list(_differences(spec, results, runs)),
        sorted({int(seed) for seed in runs["seed"]}),
        runs["git_commit"],
        str(runs["experiment"].iloc[0]),
    )


def _crossed(axes: Sequence[Axis], runs: pd.DataFrame) -> list[Item]:
    """Returns an item, made by `join`, for every combination of one item from each axis."""
    return [join(items) for items in itertools.product(*(axis(runs) for axis in axes))]


def _cell(
    spec: Spec, results: Results, runs: pd.DataFrame, published: pd.DataFrame, parts: tuple[Item, Item, Item]
) -> Cell:
    meaning = join(parts)
    where = meaning.where
    theirs = paper_row(published, metric=spec.kind.metric, **meaning.paper) if len(published) else None
    named = next((where[name] for name in ("strong", "weak") if where.get(name)), None)
    return {
        "section": parts[0].label,
        "row": parts[1].label,
        "column": parts[2].label,
        **({"family": family(named)} if named else {}),
        **where,
        "paper": None if theirs is None else float(theirs["value"]),
        "paper_std": float(theirs["std"]) if theirs is not None and theirs["std"] != "" else None,
        **spec.kind.cell(results, [select(runs, where)]),
    }


def _average(
    spec: Spec, results: Results, runs: pd.DataFrame, parts: tuple[Item, list[Item], Item], cells: Sequence[Cell]
) -> Cell:
    """Returns a column's mean over a section's rows, or no number if a row has none. `parts`: section, rows, column."""
    heading, lines, column = parts
    theirs = [cell["paper"] for cell in cells]
    return {
        "section": heading.label,
        "row": AVERAGE,
        "column": column.label,
        **heading.where,
        **column.where,
        "paper": None if None in theirs else sum(theirs) / len(theirs),
        "paper_std": None,
        **spec.kind.cell(results, [select(runs, join((heading, line, column)).where) for line in lines]),
    }


def _differences(spec: Spec, results: Results, runs: pd.DataFrame) -> Iterator[Cell]:
    """Yields a − b for each contrast (a, b): in each section, then over all sections if several have runs.

    If the column `spec.split` has several values, it yields one difference for each value, then one over all values.
    """
    on = (*spec.kind.same, *spec.same)
    groups = [(section.label, select(runs, section.where)) for section in _crossed(spec.sections, runs)]
    if sum(len(rows) > 0 for _, rows in groups) > 1:
        groups.append(("all", runs))
    for (name, rows), (a, b) in itertools.product(groups, spec.contrasts):
        first, second = select(rows, a.where), select(rows, b.where)
        parts = sorted(set(first[spec.split]) & set(second[spec.split]), key=_order) if spec.split else []
        split = [(_shown(spec.split, part), {spec.split: part}) for part in parts if len(parts) > 1]
        for part, where in [*split, ("all", {})]:
            cell = spec.kind.compare(results, select(first, where), select(second, where), on)
            if cell:
                yield {"section": name, "part": part, "a": a.label, "b": b.label, **where, **cell}


def _order(value: Any) -> tuple[Any, ...]:
    """Returns a sort key: models are sorted by family and size, other values by themselves."""
    size = model_size(value) if isinstance(value, str) else math.nan
    return (value,) if math.isnan(size) else (family(value), size)


def _shown(column: str, value: Any) -> str:
    if column in ("weak", "strong"):
        return label(value)
    names = {"objective": OBJECTIVES, "data": DATA_NAMES}.get(column, {})
    return names.get(value, f"{value:g}" if isinstance(value, float) else str(value))
