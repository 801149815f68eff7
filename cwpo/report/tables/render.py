"""Turns filled tables into pages: text, cells, differences and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import METHOD_NAMES, WS_DPO, capital, the_point
from cwpo.report.tables.cells import by_seed, counts, interval, plain, published
from cwpo.report.tables.grid import Cell, Grid, Section, fill
from cwpo.report.tables.kinds import Number
from cwpo.report.tables.latex import tabular
from cwpo.report.tables.page import Page
from cwpo.report.tables.spec import Spec
from cwpo.results import MATCHED, OWN_BEST

WS_NOTE = (
    "WS-DPO's labels are those of a weak policy trained by SFT + DPO, read off its implicit reward or its likelihood. The paper "
    "does not say by which rule it read them, so its number stands beside both."
)
HEADINGS = {
    MATCHED: "## At the matched update size\n\nOne update size for all arms of a family, chosen by the Human arm alone.",
    OWN_BEST: "## At each arm's own best update size\n\nEvery method at the update size with its best mean gold reward.",
}


def pages(spec: Spec, results: Results, below: Callable[[Grid], str] | None = None) -> list[Page]:
    """Fills the table at each operating point at which it ran and returns its pages; [] if the table has no runs.

    Each operating point has a page with the CSV and LaTeX of the table. If there are differences, it also has a page
    with the CSV of the differences. The very first page also has the Markdown, for all operating points together.
    `below` returns Markdown to put under each filled table.
    """
    of_arms = spec.kind.on_arms
    points = results.points(*spec.shown) if of_arms else (MATCHED,)
    filled = [(point, fill(spec, results.at(point) if of_arms else results)) for point in points]
    grids = {point: grid for point, grid in filled if grid is not None}
    text, found = [_about(spec, list(grids.values()))], []
    for point, grid in grids.items():
        name = spec.name + (f"_{OWN_BEST}" if point == OWN_BEST else "")
        text += [HEADINGS[point] if len(points) > 1 else "", _counted(grid), *_tables(grid)]
        text += [below(grid) if below else "", *_compared(grid)]
        title = spec.title + (f", {the_point(point)}" if len(points) > 1 else "")
        source = {"commits": grid.commits, "experiment": grid.experiment}
        found.append(Page(name, title, None, grid.frame(), tex=tabular(grid, results.scale, title, name), **source))
        if grid.differences:
            frame = pd.DataFrame(grid.differences)
            found.append(Page(f"{name}_differences", title, None, frame, **source))
    if found:
        found[0] = replace(found[0], title=spec.title, text="\n\n".join(filter(None, text)))
    return found


def _about(spec: Spec, grids: Sequence[Grid]) -> str:
    """Returns the text above the table: what it shows and what its numbers mean."""
    labels = {label for grid in grids for label in grid.columns}
    note = WS_NOTE if labels & {METHOD_NAMES[name] for name in WS_DPO} else ""
    gra = (
        "GRA compares each arm with its own SFT model, so the mean gold rewards stand below."
        if any("tie_rate" in cell for grid in grids for cell in grid.cells)
        else ""
    )
    return "\n\n".join(filter(None, (spec.about, note, f"{spec.kind.cells_rule}. {gra}".strip())))


def _counted(grid: Grid) -> str:
    ties = [cell["tie_rate"] for cell in grid.cells if "tie_rate" in cell]
    shown = f" Ties (counted as losses): {min(ties):.1f} to {max(ties):.1f} %." if ties else ""
    return f"{capital(counts(grid.cells, grid.seeds, grid.spec.kind.what))}.{shown}"


def _tables(grid: Grid) -> list[str]:
    kind = grid.spec.kind
    parts = []
    for section in grid.sections:
        if section.label:
            parts.append(f"### {section.label}")
        parts.append(f"{capital(kind.main.title)}:\n\n{_table(grid, section, kind.main, paper=grid.has_paper)}")
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
    lines = [
        [_contrast(cell), *_numbers(cell, numbers), *(f"{cell[size]:,}" for size in ("seeds", "cells", "prompts"))]
        for cell in grid.differences
    ]
    text = f"### Arm against arm, same prompts\n\n{grid.spec.kind.differences_rule}"
    return [text, markdown_table([*header, grid.spec.kind.what], lines)]


def _contrast(cell: Cell) -> str:
    where = [cell["section"]] if cell["section"] else []
    where += [cell["part"]] if cell["part"] != "all" or not where else []
    short = (part.partition(" (")[0] for part in where)  # without the names of the checkpoints, in brackets
    return f"{', '.join(short)}: {cell['a']} − {cell['b']}"


def _numbers(cell: Cell, numbers: tuple[Number, ...]) -> list[str]:
    shown = [interval(cell, number.name, number.digits) if number.name in cell else "–" for number in numbers]
    return [shown[0], by_seed(cell["by_seed"], cell["seeds"]) if "by_seed" in cell else "–", *shown[1:]]
