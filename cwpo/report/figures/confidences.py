"""Figure 7: how sure the annotator is, by data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.figures.style import BLUE, ORANGE, figure, files
from cwpo.report.inputs import Results, datasets
from cwpo.report.names import DATA_NAMES, label

ENOUGH = 30  # pairs; the accuracy of a bin with fewer is not drawn
COLUMNS = 3


def figure7(results: Results, folder: Path) -> list[Path]:
    """Histogram of C over the unlabeled pairs, and over it the accuracy of the labels of each bin; a panel per data set."""
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
            right = _panel(axis, table[table["data"] == name], DATA_NAMES.get(name, name))
            if place % COLUMNS == 0:
                axis.set_ylabel("pairs, %")
            if place % COLUMNS == COLUMNS - 1 or place == len(names) - 1:
                right.set_ylabel("agree with gold, %")
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
    return files(path)


def _panel(axis: Any, table: pd.DataFrame, title: str) -> Any:
    """Draw one data set; return the right-hand axis."""
    bins = table.groupby(["low", "high"])[["pairs", "agree_gold"]].sum().reset_index()
    width, centre = (bins["high"] - bins["low"]).to_numpy(), (bins["low"] + bins["high"]) / 2
    share = 100 * bins["pairs"] / bins["pairs"].sum()
    axis.bar(bins["low"], share, width=width, align="edge", color=BLUE, lw=0, label="share of pairs")
    right, enough = axis.twinx(), bins["pairs"] >= ENOUGH
    accuracy = 100 * bins["agree_gold"][enough] / bins["pairs"][enough]
    look: Any = {"color": ORANGE, "marker": "o", "ms": 2.5, "lw": 1}
    right.plot(centre[enough], accuracy, label="labels that agree with gold", **look)
    right.axhline(50, color="black", lw=0.8, ls=":", label="chance, 50 %")
    right.set_ylim(30, 102)
    right.spines["right"].set_visible(True)
    axis.set_title(f"{title}, mean C {float(np.average(centre, weights=bins['pairs'])):.2f}")
    axis.set_xlim(0, 1)
    axis.set_xlabel("confidence C")
    return right
