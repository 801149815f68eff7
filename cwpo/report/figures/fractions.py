"""Figure 3: CW-PO and other arms over the share of human labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cwpo.report.figures.style import COLORS, files, mark_not_run, points, table_figure, theirs
from cwpo.report.inputs import Results
from cwpo.report.tables.figure_specs import FIGURE3_LEFT, FIGURE3_RIGHT
from cwpo.report.tables.grid import Cell, fill
from cwpo.report.tables.spec import Spec


def figure3_left(results: Results, folder: Path) -> list[Path]:
    """CW-PO and the arms of unweighted weak labels; a column per data set, GRA above mean gold reward."""
    return _draw(results, folder, FIGURE3_LEFT)


def figure3_right(results: Results, folder: Path) -> list[Path]:
    """CW-PO and DPO on the labeled part."""
    return _draw(results, folder, FIGURE3_RIGHT)


def _draw(results: Results, folder: Path, spec: Spec) -> list[Path]:
    grid = fill(spec, results)
    if grid is None:
        return []
    shape, size = (2, len(grid.sections)), (max(2.4 * len(grid.sections), 3.3), 4.7)
    with table_figure(
        grid, results, folder, shape=shape, size=size, legend=4 if spec is FIGURE3_LEFT else 2
    ) as (_, axes):
        for column, section in zip(axes.T, grid.sections):
            for axis, name in zip(column, ("gra", "reward")):
                _panel(axis, name, grid.columns, [cells for _, cells in section.rows])
            models, _, data = section.label.rpartition(", ")
            column[0].set_title(f"{data}\n{models.partition(' (')[0]}")
            column[1].set_xlabel("labeled pairs, %")
        axes[0, 0].set_ylabel("GRA, %")
        axes[1, 0].set_ylabel("mean gold reward")
    return files(folder / spec.name)


def _panel(axis: Any, name: str, labels: list[str], rows: list[list[Cell]]) -> None:
    """One number of each arm over the labeled share, a row of cells for each share; the paper has GRA alone."""
    shares = [100 * row[0]["human_fraction"] for row in rows]
    for label, cells, marker in zip(labels, zip(*rows), "osD^"):
        color = COLORS[cells[0]["method"]]
        points(axis, shares, cells, name, color=color, label=label)
        if name == "gra":
            theirs(axis, shares, cells, color=color, marker=marker, label=f"{label}, paper")
    mark_not_run(axis, [cell for row in rows for cell in row])
    axis.set_xticks(shares)
