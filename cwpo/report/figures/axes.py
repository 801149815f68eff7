"""Figures of an own sweep: mean gold reward over each pair of its axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.report.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, YELLOW, figure, points, sizes
from cwpo.report.inputs import Results
from cwpo.report.tables.cells import average
from cwpo.report.tables.ranking import setting, varies

COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY, "black")
APART = 0.12  # between the points of one place, of 1 between places


def axis_figures(results: Results, rows: pd.DataFrame, axes: Sequence[str], folder: Path) -> list[Path]:
    """One PNG for each pair of axes, for a single axis one over it: the axis with more values across, the other as colours.

    A point is the mean over those settings of the other axes that all points of the figure have. Without any there is no figure.
    """
    rows = rows.assign(**{axis: rows[axis].map(setting) for axis in axes})
    axes = [axis for axis in axes if varies(rows[axis])]
    pairs = list(itertools.combinations(axes, 2)) or [(axes[0], "")] if axes else []
    return [path for pair in pairs for path in _draw(results, rows, axes, pair, folder)]


def _draw(
    results: Results, rows: pd.DataFrame, axes: Sequence[str], pair: tuple[str, str], folder: Path
) -> list[Path]:
    across, colored = sorted(pair, key=lambda axis: -rows[axis].nunique() if axis else 0)
    rest = [axis for axis in axes if axis not in pair]
    places = sorted(set(rows[across]), key=_order)
    cells, settings = _cells(results, rows, [axis for axis in (across, colored) if axis], rest)
    if not settings:
        return []
    path = folder / "_by_".join(axis.replace(".", "_") for axis in (across, colored) if axis)
    note = sizes(list(cells.values()), sorted(set(rows["seed"])))
    if rest:
        note = f"each point: mean over {settings} settings of {', '.join(rest)};\n{note}"
    values = sorted({place[1:] for place in cells}, key=lambda value: _order(*value))
    size = (max(3.6, 0.9 * len(places) + 1.2), 3.6)
    with figure(path, results.scale, size=size, title="", sizes=note, legend=2, pdf=False) as (_, grid):
        axis = grid[0, 0]
        for number, (value, color) in enumerate(zip(values, itertools.cycle(COLORS))):
            at = [place + APART * (number - (len(values) - 1) / 2) for place in range(len(places))]
            label = {"label": f"{colored}={value[0]}"} if value else {}
            line: Any = {"ls": "none", "color": color, **label}
            points(axis, at, [cells.get((place, *value), {}) for place in places], "reward", **line)
        axis.set_xticks(range(len(places)), places)
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.set_xlabel(across)
        axis.set_ylabel("mean gold reward")
    return [path.with_suffix(".png")]


def _cells(
    results: Results, rows: pd.DataFrame, pair: list[str], rest: list[str]
) -> tuple[dict[tuple[str, ...], dict[str, Any]], int]:
    """By values of the pair, the average over the settings of the rest that all of them have; and how many these are."""
    parts = {
        place: dict(list(group.groupby(rest, sort=False))) if rest else {(): group}
        for place, group in rows.groupby(pair, sort=False)
    }
    common = set.intersection(*(set(by_setting) for by_setting in parts.values()))
    chosen = {place: [frame for key, frame in by.items() if key in common] for place, by in parts.items()}
    return {place: average(results, frames) for place, frames in chosen.items() if frames}, len(common)


def _order(value: str = "") -> tuple[int, float, str]:
    """Numbers by size, then texts, then the dash of what does not apply."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1 + (value == "–"), 0.0, value
