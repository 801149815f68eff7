"""Figures 2 and 4: the top N % most confident pairs, against Human or against CW-PO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cwpo.report.figures.style import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    files,
    level,
    mark_not_run,
    points,
    table_figure,
    theirs,
)
from cwpo.report.inputs import Results
from cwpo.report.tables.figure_specs import FIGURE2, FIGURE4
from cwpo.report.tables.grid import AVERAGE, Cell, fill
from cwpo.report.tables.spec import Spec


def figure2(results: Results, folder: Path) -> list[Path]:
    """Two rows per pair of models, GRA and mean gold reward over N; a column per data set; Human as a band."""
    return _draw(results, folder, FIGURE2, "human", "Human")


def figure4(results: Results, folder: Path) -> list[Path]:
    """As Figure 2, over nine thresholds; CW-PO as a band."""
    return _draw(results, folder, FIGURE4, "cw_po", "CW-PO, all pairs")


def _draw(results: Results, folder: Path, spec: Spec, other: str, name: str) -> list[Path]:
    grid = fill(spec, results)
    if grid is None:
        return []
    panels = [
        [(label, cells) for label, cells in section.rows if label != AVERAGE] for section in grid.sections
    ]
    shape = (2 * len(panels), len(panels[0]))
    size = (max(2.3 * len(panels[0]), 4.6), 3.4 * len(panels) + 1.1)
    with table_figure(grid, results, folder, shape=shape, size=size, legend=2) as (_, axes):
        for index, (section, rows) in enumerate(zip(grid.sections, panels)):
            gra, reward = axes[2 * index : 2 * index + 2]
            for upper, lower, (label, cells) in zip(gra, reward, rows):
                _panel(upper, cells, "gra", other, name)
                _panel(lower, cells, "reward", other, name)
                upper.set_title(f"{label}\n{section.label.partition(' (')[0]}")
            gra[0].set_ylabel("GRA, %")
            reward[0].set_ylabel("mean gold reward")
        for axis in axes[-1]:
            axis.set_xlabel("most confident pairs kept, %")
    return files(folder / spec.name)


def _panel(axis: Any, cells: list[Cell], name: str, other: str, title: str) -> None:
    top = [cell for cell in cells if cell["method"] != other]
    shares = [100 * cell.get("keep_fraction", 1.0) for cell in top]
    color = GREY if other == "human" else COLORS[other]
    for cell in cells:
        if cell["method"] == other:
            level(axis, cell, name, color=color, label=title)
            if name == "gra" and cell["paper"] is not None:
                axis.axhline(cell["paper"], color=color, lw=1, ls=":", label=f"{title}, paper")
    line = BLUE if other == "human" else GREEN
    points(axis, shares, top, name, color=line, label="top N %")
    if name == "gra":
        theirs(axis, shares, top, color=line, label="top N %, paper")
    mark_not_run(axis, cells)
    axis.set_xticks([share for share in shares if len(shares) < 6 or share in (10, 30, 50, 75, 100)])
    axis.set_xlim(min(shares) - 6, 106)
