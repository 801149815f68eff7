"""A filled table as a page: text, cells, differences and LaTeX."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import capital
from cwpo.report.tables.cells import NOT_RUN, by_seed, counts, interval, plain, published
from cwpo.report.tables.grid import Cell, Grid, Section, fill
from cwpo.report.tables.kinds import Number
from cwpo.report.tables.latex import tabular
from cwpo.report.tables.page import Page
from cwpo.report.tables.spec import Spec


def pages(spec: Spec, results: Results, below: Callable[[Grid], str] | None = None) -> list[Page]:
    """The table's page and, where arms are compared, its differences as CSV; [] if no run of the table exists.

    `below` writes Markdown that stands under the table.
    """
    grid = fill(spec, results)
    if grid is None:
        return []
    text = [_about(grid), *_tables(grid), below(grid) if below else "", *_compared(grid)]
    experiment = spec.shown[0] if len(spec.shown) == 1 else spec.name
    source = {"commits": grid.commits, "experiment": experiment}
    body, tex = "\n\n".join(filter(None, text)), tabular(grid, results.scale)
    page = Page(spec.name, spec.title, body, grid.frame(), tex=tex, **source)
    if not grid.differences:
        return [page]
    title = f"{spec.title}: paired differences"
    return [page, Page(f"{spec.name}_differences", title, None, pd.DataFrame(grid.differences), **source)]


def _about(grid: Grid) -> str:
    kind = grid.spec.kind
    ties = [cell["tie_rate"] for cell in grid.cells if "tie_rate" in cell]
    parts = [f"{kind.cells_rule}; {counts(grid.cells, grid.seeds, kind.what)}."]
    if ties:
        parts.append(
            f"Ties (counted as losses): {min(ties):.1f} to {max(ties):.1f} %. GRA compares each arm with its own SFT model, so "
            "the mean gold rewards stand below."
        )
    return f"{grid.spec.about}\n\n{' '.join(parts)}"


def _tables(grid: Grid) -> list[str]:
    kind = grid.spec.kind
    parts = []
    for section in grid.sections:
        if section.label:
            parts.append(f"### {section.label}")
        parts.append(
            f"{capital(kind.main.title)}:\n\n{_table(grid, section, kind.main, paper=grid.has_paper)}"
        )
        if section.ran:
            parts.append(f"{kind.second.title}:\n\n{_table(grid, section, kind.second)}")
    return parts


def _table(grid: Grid, section: Section, number: Number, paper: bool = False) -> str:
    header = [""]
    for column in grid.columns:
        header.append(column)
        header += ["paper"] if paper else [number.beside[1]] if number.beside else []
    lines = []
    for label, cells in section.rows:
        line = [label]
        for cell in cells:
            line.append(interval(cell, number.name, number.digits))
            if paper:
                line.append(published(cell["paper"], cell["paper_std"]))
            elif number.beside:
                line.append(plain(cell, number.beside[0]))
        lines.append(line)
    return markdown_table(header, lines)


def _compared(grid: Grid) -> list[str]:
    if not grid.differences:
        return []
    numbers = grid.spec.kind.differences
    header = ["contrast", numbers[0].title, "by seed", *(n.title for n in numbers[1:]), "seeds", "cells"]
    lines = [[_contrast(cell), *_numbers(cell, numbers), *_sizes(cell)] for cell in grid.differences]
    text = f"### Arm against arm, same prompts\n\n{grid.spec.kind.differences_rule}"
    return [text, markdown_table([*header, grid.spec.kind.what], lines)]


def _contrast(cell: Cell) -> str:
    where = [cell["section"]] if cell["section"] else []
    where += [cell["part"]] if cell["part"] != "all" or not where else []
    return f"{', '.join(_short(part) for part in where)}: {cell['a']} − {cell['b']}"


def _short(label: str) -> str:
    """A pair of models without the names of their checkpoints."""
    return label.partition(" (")[0]


def _numbers(cell: Cell, numbers: tuple[Number, ...]) -> list[str]:
    shown = [interval(cell, number.name, number.digits) if number.name in cell else "–" for number in numbers]
    return [shown[0], by_seed(cell.get("by_seed", NOT_RUN), cell["seeds"]), *shown[1:]]


def _sizes(cell: Cell) -> list[str]:
    return [str(cell["seeds"]), str(cell["cells"]), f"{cell['prompts']:,}"]
