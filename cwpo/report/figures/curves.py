"""Plots results with intervals against a share (Figures 2, 3, 4 and 8) or against the learning rate (tuning)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.report.figures.style import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    ORANGE,
    figure,
    files,
    level,
    mark_not_run,
    over_rates,
    points,
    sizes,
    table_figure,
    theirs,
)
from cwpo.report.inputs import Results
from cwpo.report.tables.annotators import FIGURE8
from cwpo.report.tables.figure_specs import FIGURE2, FIGURE3_LEFT, FIGURE3_RIGHT, FIGURE4
from cwpo.report.tables.grid import AVERAGE, Cell, fill
from cwpo.report.tables.spec import Spec
from cwpo.report.tables.tuning import human_target, tuning_cells, tuning_runs
from cwpo.results import MATCHED

NUMBERS = {"gra": "GRA, %", "reward": "mean gold reward"}  # number -> axis label; the paper prints GRA only
AGAINST = {"accuracy_gold": ("with gold", BLUE), "accuracy_human": ("with the human labels", ORANGE)}


def _most_confident(spec: Spec, other: str, name: str, results: Results, folder: Path) -> list[Path]:
    """Draws GRA, and below it gold reward, against the share of pairs kept; a column per data set.

    The method `other` does not depend on this share: it is a horizontal line with a band, with `name` in the legend.
    """
    grid = fill(spec, results)
    if grid is None:
        return []
    panels = [[row for row in section.rows if row[0] != AVERAGE] for section in grid.sections]
    shape = (2 * len(panels), len(panels[0]))
    size = (max(2.3 * len(panels[0]), 4.6), 3.4 * len(panels) + 1.1)
    with table_figure(grid, results, folder, shape=shape, size=size, legend=2) as (_, axes):
        for lines, section, rows in zip(axes.reshape(len(panels), 2, -1), grid.sections, panels):
            for (above, below), (label, cells) in zip(lines.T, rows):
                above.set_title(f"{label}\n{section.label.partition(' (')[0]}")
                _over_thresholds(above, cells, "gra", other, name)
                _over_thresholds(below, cells, "reward", other, name)
            for line, title in zip(lines, NUMBERS.values()):
                line[0].set_ylabel(title)
        for axis in axes[-1]:
            axis.set_xlabel("most confident pairs kept, %")
    return files(folder / spec.name)


def _over_thresholds(axis: Any, cells: list[Cell], name: str, other: str, title: str) -> None:
    top = [cell for cell in cells if cell["method"] != other]
    shares = [100 * cell.get("keep_fraction", 1.0) for cell in top]
    for cell in cells:
        if cell["method"] == other:
            level(axis, cell, name, COLORS[other], title)
            if name == "gra" and cell["paper"] is not None:
                axis.axhline(cell["paper"], color=COLORS[other], lw=1, ls=":", label=f"{title}, paper")
    line = BLUE if other == "human" else GREEN
    points(axis, shares, top, name, color=line, label="top N %")
    if name == "gra":
        theirs(axis, shares, top, color=line, label="top N %, paper")
    mark_not_run(axis, cells)
    axis.set_xticks([share for share in shares if len(shares) < 6 or share in (10, 30, 50, 75, 100)])
    axis.set_xlim(min(shares) - 6, 106)


def _labeled(spec: Spec, results: Results, folder: Path) -> list[Path]:
    """Draws each arm's GRA (upper row) and gold reward (lower row) by share of labeled pairs; a column per data set."""
    grid = fill(spec, results)
    if grid is None:
        return []
    shape, size = (2, len(grid.sections)), (max(2.4 * len(grid.sections), 3.3), 4.7)
    with table_figure(grid, results, folder, shape=shape, size=size, legend=min(4, 2 * len(grid.columns) - 2)) as (
        _,
        axes,
    ):
        for column, section in zip(axes.T, grid.sections):
            for axis, name in zip(column, NUMBERS):
                _over_labels(axis, name, grid.columns, [cells for _, cells in section.rows])
            models, _, data = section.label.rpartition(", ")
            column[0].set_title(f"{data}\n{models.partition(' (')[0]}")
            column[1].set_xlabel("labeled pairs, %")
        for axis, title in zip(axes[:, 0], NUMBERS.values()):
            axis.set_ylabel(title)
    return files(folder / spec.name)


def _over_labels(axis: Any, name: str, labels: Sequence[str], rows: list[list[Cell]]) -> None:
    """Draws each arm's mean `name`, e.g. "gra", against the share of labeled pairs.

    `rows` has a row per share with a cell for each arm; `labels` has the arms' names.
    """
    shares = [100 * row[0]["human_fraction"] for row in rows]
    for label, cells, marker in zip(labels, zip(*rows), "osD^"):
        color = COLORS[cells[0]["method"]]
        points(axis, shares, cells, name, color=color, label=label)
        if name == "gra":
            theirs(axis, shares, cells, color=color, marker=marker, label=f"{label}, paper")
    mark_not_run(axis, [cell for row in rows for cell in row])
    axis.set_xticks(shares)


figure2 = partial(_most_confident, FIGURE2, "human", "Human")
figure4 = partial(_most_confident, FIGURE4, "cw_po", "CW-PO, all pairs")
figure3_left, figure3_right = partial(_labeled, FIGURE3_LEFT), partial(_labeled, FIGURE3_RIGHT)


def figure8(results: Results, folder: Path) -> list[Path]:
    """Draws how often annotators disagree with gold and with human labels on test pairs, by share of poison."""
    grid = fill(FIGURE8, results)
    if grid is None:
        return []
    cells = [cell for section in grid.sections for _, row in section.rows for cell in row]
    path, note = folder / FIGURE8.name, sizes(cells, grid.seeds, "pairs")
    title = "Figure 8: poisoned annotators"
    with figure(path, results, size=(3.3, 3.3), title=title, sizes=note, legend=1) as (_, axes):
        axis = axes[0, 0]
        shares = [100 * cell["poison_fraction"] for cell in cells]
        for name, (words, color) in AGAINST.items():
            ends = ((name, name), (f"{name}_low", f"{name}_high"), (f"{name}_high", f"{name}_low"))
            disagreement = [{to: 100 - cell[of] for to, of in ends} if name in cell else {} for cell in cells]
            points(axis, shares, disagreement, name, color=color, label=f"disagreement {words}")
        axis.axhline(50, color="black", lw=0.8, ls=":", label="chance, 50 %")
        axis.set_xticks(shares)
        axis.set_xlabel("poisoned labels, %")
        axis.set_ylabel("disagreement, %")
    return files(path)


def tuning(results: Results, folder: Path) -> list[Path]:
    """Draws GRA, and below it gold reward, against the learning rate; a column per family.

    A dashed line marks the learning rate of the operating point "matched".
    """
    cells = tuning_cells(results)
    if not len(cells):
        return []
    path, families = folder / "tuning", sorted(set(cells["family"]))
    note = sizes(cells.to_dict("records"), tuning_runs(results)["seed"])
    size, target = (3.1 * len(families), 5.0), human_target(results)
    with figure(path, results, (2, len(families)), size=size, title="Update size", sizes=note, legend=3) as (_, axes):
        for column, name in zip(axes.T, families):
            here = cells[cells["family"] == name]
            for axis, number in zip(column, NUMBERS):
                _panel(axis, here, number)
            column[0].axhline(target, color=GREY, ls=":", lw=1, label="Human's mean GRA in the paper")
            column[0].set_title(FAMILIES.get(name, name))
        for axis, title in zip(axes[:, 0], NUMBERS.values()):
            axis.set_ylabel(title)
    return files(path)


def _panel(axis: Any, cells: pd.DataFrame, number: str) -> None:
    """Draws one family's panel: a line per method against the learning rate, and the matched learning rate."""
    over_rates(axis, cells, number, sorted(set(cells["learning_rate"])))
    for rate in cells[cells[MATCHED]]["learning_rate"].unique():
        axis.axvline(rate, color=GREY, ls="--", lw=1, label="matched update size")
