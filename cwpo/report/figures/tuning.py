"""The update sizes of both operating points, on development seeds: Human's GRA, and each method's mean gold reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.report.figures.style import COLORS, GREY, figure, files, points, rate_axis, sizes
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.tuning import human_target, tuning_cells
from cwpo.results import MATCHED


def tuning(results: Results, folder: Path) -> list[Path]:
    """A column per family: GRA above, mean gold reward below, a line per method; dashed: the matched update size."""
    cells = tuning_cells(results)
    if not len(cells):
        return []
    path, families = folder / "tuning", sorted(set(cells["family"]))
    note = sizes(cells.to_dict("records"), sorted(set(results.of("tuning")["seed"])))
    size, target = (3.1 * len(families), 5.0), human_target(results)
    with figure(path, results, (2, len(families)), size=size, title="Update size", sizes=note, legend=3) as (
        _,
        axes,
    ):
        for column, name in zip(axes.T, families):
            here = cells[cells["family"] == name]
            for axis, number in zip(column, ("gra", "reward")):
                _panel(axis, here, number)
            column[0].axhline(target, color=GREY, ls=":", lw=1, label="Human's mean GRA in the paper")
            column[0].set_title(FAMILIES.get(name, name))
        axes[0, 0].set_ylabel("GRA, %")
        axes[1, 0].set_ylabel("mean gold reward")
    return files(path)


def _panel(axis: Any, cells: pd.DataFrame, number: str) -> None:
    """One number of every method in one family."""
    for method in (key for key in SWEPT_NAMES if key in set(cells["method"])):
        of = cells[cells["method"] == method]
        look = {"color": COLORS.get(method, "black"), "label": SWEPT_NAMES[method]}
        points(axis, of["learning_rate"].tolist(), of.to_dict("records"), number, **look)
    rate_axis(axis, sorted(set(cells["learning_rate"])))
    for rate in cells[cells[MATCHED]]["learning_rate"].unique():
        axis.axvline(rate, color=GREY, ls="--", lw=1, label="matched update size")
