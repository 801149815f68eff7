"""Figure 8: annotators that learned from poisoned labels."""

from __future__ import annotations

from pathlib import Path

from cwpo.report.figures.style import BLUE, ORANGE, figure, files, points, sizes
from cwpo.report.inputs import Results
from cwpo.report.tables.annotators import FIGURE8
from cwpo.report.tables.grid import Cell, fill

AGAINST = {
    "accuracy_gold": ("with gold", BLUE),
    "accuracy_human": ("with the human labels", ORANGE),
}


def figure8(results: Results, folder: Path) -> list[Path]:
    """Share of test pairs on which the annotator disagrees with gold and with human labels, over the poisoned share."""
    grid = fill(FIGURE8, results)
    if grid is None:
        return []
    cells = [cell for section in grid.sections for _, row in section.rows for cell in row]
    path, title, note = (
        folder / FIGURE8.name,
        "Figure 8: poisoned annotators",
        sizes(cells, grid.seeds, "pairs"),
    )
    with figure(path, results, size=(3.3, 3.3), title=title, sizes=note, legend=1) as (_, axes):
        axis = axes[0, 0]
        shares = [100 * cell["poison_fraction"] for cell in cells]
        for name, (title, color) in AGAINST.items():
            look = {"color": color, "label": f"disagreement {title}"}
            points(axis, shares, [_disagreement(cell, name) for cell in cells], name, **look)
        axis.axhline(50, color="black", lw=0.8, ls=":", label="chance, 50 %")
        axis.set_xticks(shares)
        axis.set_xlabel("poisoned labels, %")
        axis.set_ylabel("disagreement, %")
    return files(path)


def _disagreement(cell: Cell, name: str) -> Cell:
    if name not in cell:
        return {}
    return {
        name: 100 - cell[name],
        f"{name}_low": 100 - cell[f"{name}_high"],
        f"{name}_high": 100 - cell[f"{name}_low"],
    }
