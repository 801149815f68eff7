"""Figure 5: how much better CW-PO's answer is than Human's, prompt by prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cwpo.report.figures.style import BLUE, GREY, ORANGE, figure, files, mark_not_run
from cwpo.report.inputs import Results
from cwpo.report.tables.arms import CW, HUMAN
from cwpo.report.tables.cells import counts, interval
from cwpo.report.tables.figure_specs import FIGURE5
from cwpo.report.tables.grid import AVERAGE, Cell, fill


def figure5(results: Results, folder: Path) -> list[Path]:
    """Gold reward of CW-PO less Human's on every prompt, sorted; a panel per data set with its win rate."""
    grid = fill(FIGURE5, results)
    if grid is None:
        return []
    rows = [(label, cells[0]) for section in grid.sections for label, cells in section.rows if label != AVERAGE]
    columns = min(2, len(rows))
    with figure(
        path := folder / FIGURE5.name,
        results,
        (-(-len(rows) // columns), columns),
        size=(5.6, 5.0),
        title=FIGURE5.title,
        sizes=counts(grid.cells, grid.seeds),
    ) as (fig, axes):
        for axis, (label, cell) in zip(axes.flat, rows):
            gaps = np.sort(_gaps(results, cell))[::-1]
            place = 100 * np.arange(len(gaps)) / max(len(gaps), 1)
            axis.fill_between(place, gaps, where=gaps > 0, color=BLUE, lw=0, step="mid")
            axis.fill_between(place, gaps, where=gaps < 0, color=ORANGE, lw=0, step="mid")
            axis.axhline(0, color=GREY, lw=0.8)
            mark_not_run(axis, [cell])
            paper = "" if cell["paper"] is None else f" (paper {cell['paper']:.1f})"
            axis.set_title(f"{label}\nwin rate {interval(cell, 'win_rate')} %{paper}")
        for axis in axes.flat[len(rows) :]:
            axis.set_axis_off()
        fig.supxlabel("prompts, % (sorted)", fontsize=8)
        fig.supylabel("gold reward, CW-PO − Human", fontsize=8)
    return files(path)


def _gaps(results: Results, cell: Cell) -> np.ndarray:
    runs = results.of("figure5")
    here = runs[(runs["data"] == cell["data"]) & (runs["strong"] == cell["strong"]) & (runs["weak"] == cell["weak"])]
    arms = [here[here["method"] == item.where["method"]].set_index("seed")["run_key"] for item in (CW, HUMAN)]
    gaps = [
        results.rewards[arms[0][seed]].reward - results.rewards[arms[1][seed]].reward
        for seed in sorted(set(arms[0].index) & set(arms[1].index))
    ]
    return np.concatenate(gaps) if gaps else np.empty(0)
