"""Draws mean gold reward against KL(π‖π_ref), a line per method, a point per learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from cwpo.report.figures.style import COLORS, figure, files, points, sizes
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.frontier import frontier_cells, methods_of, panels, root
from cwpo.results import BOTH, MATCHED, OWN_BEST

# Rings around the points that lie at an operating point: marker, size, label.
RINGS = {MATCHED: ("s", 9, "matched update size"), OWN_BEST: ("o", 12, "own best update size")}


def frontier(results: Results, folder: Path) -> list[Path]:
    """Draws mean gold reward against KL (square-root axis), a panel per data set and pair of models; [] if none ran."""
    cells = frontier_cells(results)
    if not len(cells) or "kl" not in cells:
        return []
    drawn = list(panels(cells))
    columns = len(set(cells["data"]))
    shape = (-(-len(drawn) // columns), columns)
    note = sizes(cells.to_dict("records"), results.of("frontier")["seed"])
    title = "Mean gold reward against the distance from the SFT model, over the update size"
    size = (3.1 * columns + 0.4, 2.5 * shape[0] + 1.6)
    with figure(path := folder / "frontier", results, shape, size=size, title=title, sizes=note, legend=4) as (_, axes):
        for axis, (pair, name, rows) in zip(axes.flat, drawn):
            for method in methods_of(cells):
                _line(axis, rows[rows["method"] == method].sort_values("learning_rate"), method)
            axis.set_xscale("function", functions=(root, np.square))
            axis.set_xlim(left=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))  # the root pushes high values together
            axis.set_title(f"{name}\n{pair}")
        for axis in axes[-1]:
            axis.set_xlabel("KL(π‖π_ref), nats per response")
        for axis in axes[:, 0]:
            axis.set_ylabel("mean gold reward")
    return files(path)


def _line(axis: Any, rows: pd.DataFrame, method: str) -> None:
    color = COLORS.get(method, "black")
    cells, kl = rows.to_dict("records"), rows["kl"].tolist()
    ends = [rows["kl"] - rows["kl_low"], rows["kl_high"] - rows["kl"]]
    points(axis, kl, cells, "reward", xerr=ends, color=color, label=SWEPT_NAMES[method], ms=3)
    for point, (marker, size, label) in RINGS.items():
        here = rows[rows["point"].isin((point, BOTH))]
        look: Any = {"mfc": "none", "mec": color, "mew": 0.9, "ls": "none", "marker": marker, "ms": size}
        axis.plot(here["kl"], here["reward"], **look)
        axis.plot([], [], **(look | {"mec": "black"}), label=label)
