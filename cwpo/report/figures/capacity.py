"""Draws the gain of CW-PO over the other arms against the strong model's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES, family
from cwpo.report.figures.style import COLORS, GREY, files, points, table_figure
from cwpo.report.inputs import Results
from cwpo.report.names import METHOD_NAMES, label, model_size
from cwpo.report.tables.arms import CAPACITY
from cwpo.report.tables.grid import fill


def capacity(results: Results, folder: Path) -> list[Path]:
    """Draws CW-PO's gain over each other arm by model size: gold reward above, GRA below, a column per family."""
    grid = fill(CAPACITY, results)
    gains = pd.DataFrame(grid.differences if grid is not None else [])
    if grid is None or "strong" not in gains:
        return []
    gains = gains.dropna(subset="strong")
    families = sorted({family(name) for name in gains["strong"]})
    shape, size = (2, len(families)), (3.1 * len(families), 5.0)
    with table_figure(grid, results, folder, shape=shape, size=size, legend=2) as (_, axes):
        for column, name in zip(axes.T, families):
            here = gains[[family(strong) == name for strong in gains["strong"]]]
            for axis, number in zip(column, ("difference", "gra_difference")):
                _panel(axis, here, number)
            column[0].set_title(FAMILIES.get(name, name))
            column[1].set_xlabel("strong model")
        axes[0, 0].set_ylabel("gain in mean gold reward")
        axes[1, 0].set_ylabel("gain in GRA, points")
    return files(folder / CAPACITY.name)


def _panel(axis: Any, gains: pd.DataFrame, number: str) -> None:
    """Draws one family's panel: the column `number` of `gains` against the strong model, ordered by size."""
    ran = sorted(set(gains["strong"]), key=model_size)
    for method in (key for key in COLORS if METHOD_NAMES[key] in set(gains["b"])):
        of = gains[gains["b"] == METHOD_NAMES[method]]
        places = [ran.index(strong) for strong in of["strong"]]
        look = {"color": COLORS[method], "label": f"CW-PO − {METHOD_NAMES[method]}"}
        points(axis, places, of.to_dict("records"), number, **look)
    axis.axhline(0, color=GREY, lw=0.8)
    axis.set_xticks(range(len(ran)), [_size(strong) for strong in ran])


def _size(model: str) -> str:
    """Returns the size in a model's label, e.g. `1.5B` for `Qwen2-1.5B`; the whole label if it has none."""
    parts = label(model).split("-")
    return next((part for part in reversed(parts) if part[:1].isdigit()), label(model))
