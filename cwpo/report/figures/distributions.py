"""Draws Figures 5 to 7: gold rewards prompt by prompt, responses as points, confidences in bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, figure, files, mark_not_run
from cwpo.report.inputs import Results, datasets, select
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, label
from cwpo.report.tables.arms import CW, HUMAN
from cwpo.report.tables.cells import counts, interval
from cwpo.report.tables.figure_specs import FIGURE5
from cwpo.report.tables.grid import AVERAGE, Cell, fill
from cwpo.report.tables.kinds import ARMS
from cwpo.statistics import mean_shift

LABELED, OFFLINE = "labeled", "offline"
TITLES = {LABELED: "labeled: what the annotator learned from", OFFLINE: "unlabeled: what it labels offline"}
LOOKS = ((GREY, "o"), (BLUE, "^"), (ORANGE, "x"), (PURPLE, "+"), (GREEN, "v"))
ENOUGH = 30  # pairs that a bin needs for its accuracy to be drawn
COLUMNS = 3


def figure5(results: Results, folder: Path) -> list[Path]:
    """Draws CW-PO's gold reward minus Human's for every prompt, sorted from the largest; a panel per data set."""
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
        for axis, (title, cell) in zip(axes.flat, rows):
            gaps = np.sort(_gaps(results, cell))[::-1]
            place = 100 * np.arange(len(gaps)) / max(len(gaps), 1)
            axis.fill_between(place, gaps, where=gaps > 0, color=BLUE, lw=0, step="mid")
            axis.fill_between(place, gaps, where=gaps < 0, color=ORANGE, lw=0, step="mid")
            axis.axhline(0, color=GREY, lw=0.8)
            mark_not_run(axis, [cell])
            paper = "" if cell["paper"] is None else f" (paper {cell['paper']:.1f})"
            axis.set_title(f"{title}\nwin rate {interval(cell, 'win_rate')} %{paper}")
        fig.supxlabel("prompts, % (sorted)", fontsize=8)
        fig.supylabel("gold reward, CW-PO − Human", fontsize=8)
    return files(path)


def _gaps(results: Results, cell: Cell) -> np.ndarray:
    here = select(results.of("figure5"), {name: cell[name] for name in ("data", "weak", "strong")})
    cw, human = (select(here, item.where) for item in (CW, HUMAN))
    both = cw.merge(human, on=list(ARMS.same), suffixes=("", "_human"))
    gaps = [
        results.rewards[run].reward - results.rewards[other].reward
        for run, other in zip(both["run"], both["run_human"])
        if not results.relative(run, other)
    ]
    return np.concatenate(gaps) if gaps else np.empty(0)


def figure6(results: Results, folder: Path) -> list[Path]:
    """Draws responses by two principal components of their hidden states, a panel per data set; one model and seed."""
    table = results.embeddings
    if not len(table):
        return []
    names = datasets(table)
    sources = [LABELED, OFFLINE, *sorted(set(table["source"]) - {LABELED, OFFLINE})]
    strong = min(table["strong"])
    ours = table[table["strong"] == strong]
    seed = int(ours["seed"].min())
    ours = ours[ours["seed"] == seed]
    most = int(ours.groupby(["data", "source"]).size().max())
    with figure(
        path := folder / "figure6",
        results,
        (1, len(names)),
        size=(max(2.6 * len(names), 3.3), 3.9),
        title=f"Figure 6: responses as {label(strong)} (SFT) represents them",
        sizes=f"seed {seed}, up to {most:,} responses of each kind;\n"
        "shift in units of the labeled responses' spread in this plane",
        legend=1,
    ) as (_, axes):
        for axis, name in zip(axes.flat, names):
            here = ours[ours["data"] == name]
            clouds = {of: here[here["source"] == of][["x", "y"]].to_numpy(float) for of in sources}
            for (of, cloud), (color, marker) in zip(clouds.items(), LOOKS):
                look: Any = {"s": 7, "lw": 0.7, "alpha": 0.65, "color": color, "marker": marker}
                axis.scatter(
                    *cloud.T, label=TITLES.get(of, f"{METHOD_NAMES.get(of, of)}: the policy's own responses"), **look
                )
            shifts = [
                f"{METHOD_NAMES.get(of, of)} {mean_shift(clouds[LABELED], clouds[of]):.2f}"
                for of in sources[1:]
                if len(clouds[of]) and len(clouds[LABELED])
            ]
            axis.set_title(f"{DATA_NAMES.get(name, name)}, shift of means:\n{', '.join(shifts)}")
            axis.set_xlabel("first component")
        axes.flat[0].set_ylabel("second component")
    return files(path)


def figure7(results: Results, folder: Path) -> list[Path]:
    """Draws, per data set, a histogram of unlabeled pairs' confidence, and how often a bin's labels agree with gold."""
    table = results.confidences
    table = table[table["annotator"] == "bt"]
    if not len(table):
        return []
    names = datasets(table)
    rows = -(-len(names) // COLUMNS)
    seeds = ", ".join(map(str, sorted(set(table["seed"]))))
    with figure(
        path := folder / "figure7",
        results,
        (rows, COLUMNS),
        size=(6.9, 2.0 * rows + 1.3),
        title=f"Figure 7: confidence of {', '.join(map(label, sorted(set(table['weak']))))}",
        sizes=f"seeds {seeds}; {int(table['pairs'].sum()):,} pairs in all; points: bins of {ENOUGH} pairs and more",
        legend=3,
    ) as (_, axes):
        for place, (axis, name) in enumerate(zip(axes.flat, names)):
            right = _histogram(axis, table[table["data"] == name], DATA_NAMES.get(name, name))
            if place % COLUMNS == 0:
                axis.set_ylabel("pairs, %")
            if place % COLUMNS == COLUMNS - 1 or place == len(names) - 1:
                right.set_ylabel("agree with gold, %")
    return files(path)


def _histogram(axis: Any, table: pd.DataFrame, title: str) -> Any:
    """Draws one data set's histogram and each bin's accuracy; returns the axis of the accuracy, on the right."""
    bins = table.groupby(["low", "high"])[["pairs", "agree_gold"]].sum().reset_index()
    width, centre = (bins["high"] - bins["low"]).to_numpy(), (bins["low"] + bins["high"]) / 2
    share = 100 * bins["pairs"] / bins["pairs"].sum()
    axis.bar(bins["low"], share, width=width, align="edge", color=BLUE, lw=0, label="share of pairs")
    right, enough = axis.twinx(), bins["pairs"] >= ENOUGH
    accuracy = 100 * bins["agree_gold"][enough] / bins["pairs"][enough]
    look: Any = {"color": ORANGE, "marker": "o", "ms": 2.5, "lw": 1}
    right.plot(centre[enough], accuracy, label="labels that agree with gold (ties count against)", **look)
    right.axhline(50, color="black", lw=0.8, ls=":", label="chance, 50 %")
    right.set_ylim(min(30, accuracy.min() - 2), 102)
    right.spines["right"].set_visible(True)
    axis.set_title(f"{title}, mean C {float(np.average(centre, weights=bins['pairs'])):.2f}")
    axis.set_xlim(0, 1)
    axis.set_xlabel("confidence C")
    return right
