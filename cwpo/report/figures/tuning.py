"""The update size chosen on development seeds: mean gold reward of the Human arm over the learning rate."""

from __future__ import annotations

from pathlib import Path

from cwpo.report.figures.style import BLUE, GREY, ORANGE, figure, files, points, rate_axis, sizes
from cwpo.report.inputs import Results
from cwpo.report.names import FAMILIES
from cwpo.report.tables.tuning import tuning_cells

COLORS = {"all": GREY, "opt": BLUE, "qwen": ORANGE}


def tuning(results: Results, folder: Path) -> list[Path]:
    """One line for each family of models, and one for all."""
    cells = tuning_cells(results)
    if not len(cells):
        return []
    path, seeds = folder / "tuning", sorted(set(results.of("tuning")["seed"]))
    note = sizes(cells.to_dict("records"), seeds)
    with figure(path, results.scale, size=(3.3, 3.1), title="Update size", sizes=note, legend=3) as (_, axes):
        axis = axes[0, 0]
        for family, of in cells.groupby("family"):
            look = {"color": COLORS.get(family, "black"), "label": FAMILIES.get(family, family)}
            points(axis, of["learning_rate"].tolist(), of.to_dict("records"), "reward", **look)
        rate_axis(axis, sorted(set(cells["learning_rate"])))
        axis.set_ylabel("mean gold reward, Human arm")
    return files(path)
