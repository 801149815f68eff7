"""Draws the figures of a user's sweep: mean gold reward over each pair of swept keys."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps

from cwpo.report.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, YELLOW, figure, points, sizes
from cwpo.report.inputs import RESAMPLES, Results
from cwpo.report.tables.cells import named_interval
from cwpo.report.tables.ranking import setting, varies
from cwpo.results import RunRewards
from cwpo.statistics import clustered_interval

COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY, "black")
APART, GROUP = 0.12, 0.8  # largest distance of neighbours, and of the outermost points, at one x; x values are 1 apart
TICKS = 30  # at most so many places have a tick label


def axis_figures(results: Results, rows: pd.DataFrame, axes: Sequence[str], folder: Path) -> list[Path]:
    """Draws a PNG for each pair of the swept keys in `axes`: x is the key with more values, colours show the other.

    If only one key varies, it is the x axis. A point is the mean gold reward over settings of the remaining keys. The
    mean includes a setting only if it ran for every point of the figure. If there is none, the figure is not drawn.
    """
    rows = rows.assign(**{axis: rows[axis].map(setting) for axis in axes})
    axes = [axis for axis in axes if varies(rows[axis])]
    pairs = list(itertools.combinations(axes, 2)) or [(axes[0], "")] if axes else []
    return [path for pair in pairs for path in _draw(results, rows, axes, pair, folder)]


def _draw(results: Results, rows: pd.DataFrame, axes: Sequence[str], pair: tuple[str, str], folder: Path) -> list[Path]:
    across, colored = sorted(pair, key=lambda axis: -rows[axis].nunique() if axis else 0)
    rest = [axis for axis in axes if axis not in pair]
    places = sorted(set(rows[across]), key=_order)
    cells, settings = _cells(results, rows, [axis for axis in (across, colored) if axis], rest)
    if not settings:
        return []
    path = folder / "_by_".join(axis.replace(".", "_") for axis in (across, colored) if axis)
    note = sizes(list(cells.values()), rows["seed"])
    title = f"each point: mean over {settings} settings of {', '.join(rest)}" if rest else ""
    values = sorted({place[1:] for place in cells}, key=lambda value: _order(*value))
    many = len(values) > len(COLORS)
    colors = colormaps["viridis"](np.linspace(0, 1, len(values))) if many else COLORS
    apart = min(APART, GROUP / len(values))
    size = (max(3.6, 0.9 * min(len(places), TICKS) + 1.2), 3.6 + (0.08 * len(values) if many else 0))
    with figure(path, results, size=size, title=title, sizes=note, legend=2, pdf=False) as (_, grid):
        axis = grid[0, 0]
        for number, (value, color) in enumerate(zip(values, colors)):
            at = [place + apart * (number - (len(values) - 1) / 2) for place in range(len(places))]
            label = {"label": f"{colored}={value[0]}"} if value else {}
            line: Any = {"ls": "none", "color": color, **label}
            points(axis, at, [cells.get((place, *value), {}) for place in places], "reward", **line)
        named = range(0, len(places), -(-len(places) // TICKS))
        axis.set_xticks(named, [places[place] for place in named])
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.set_xlabel(across)
        axis.set_ylabel("mean gold reward")
    return [path.with_suffix(".png")]


def _cells(
    results: Results, rows: pd.DataFrame, pair: list[str], rest: list[str]
) -> tuple[dict[tuple[str, ...], dict[str, Any]], int]:
    """Returns a figure's points, {values of the keys `pair`: mean result}, and the number of settings in each mean.

    `pair` names the swept keys that the figure shows, `rest` the other swept keys. A setting is a combination of values
    of `rest`. Means are over the settings that ran for every point of the figure.
    """
    parts = {
        place: dict(list(group.groupby(rest, sort=False))) if rest else {(): group}
        for place, group in rows.groupby(pair, sort=False)
    }
    common = set.intersection(*(set(by_setting) for by_setting in parts.values()))
    chosen = {place: [frame for key, frame in by.items() if key in common] for place, by in parts.items()}
    return {place: _pooled(results, frames) for place, frames in chosen.items() if frames}, len(common)


def _pooled(results: Results, settings: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Returns the mean gold reward over settings, given one frame of runs per setting; {} if their seeds differ.

    Settings that answered the same prompts form a group and are averaged prompt by prompt, so that the interval counts
    each prompt once. If groups differ in size, each setting is a group of its own, so that all settings count alike.
    """
    if len({tuple(sorted(rows["seed"])) for rows in settings}) != 1:
        return {}
    runs = [[results.rewards[run] for run in rows.sort_values("seed")["run"]] for rows in settings]
    by_prompts: dict[tuple[str, ...], list[list[RunRewards]]] = {}
    for of_setting in runs:
        by_prompts.setdefault(tuple(run.prompts for run in of_setting), []).append(of_setting)
    groups = list(by_prompts.values())
    if len(set(map(len, groups))) > 1:
        groups = [[of_setting] for of_setting in runs]
    clusters = [
        [np.mean([of_setting[seed].reward for of_setting in group], axis=0) for group in groups]
        for seed in range(len(runs[0]))
    ]
    found = clustered_interval(clusters, resamples=RESAMPLES)
    prompts = sum(len(cell) for cells in clusters for cell in cells)
    return {**named_interval("reward", found), "seeds": len(clusters), "prompts": prompts}


def _order(value: str = "") -> tuple[int, float, str]:
    """Returns a sort key: numbers by size, then texts, then the dash, which means that a key does not apply."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1 + (value == "–"), 0.0, value
