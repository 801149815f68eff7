"""Figure 3: CW-PO and another arm over the share of human labels."""

from __future__ import annotations

from pathlib import Path

from cwpo.report.figures.style import (
    COLORS,
    figure,
    head,
    legend,
    mark_not_run,
    points,
    save,
    sizes,
    theirs,
)
from cwpo.report.inputs import Results
from cwpo.report.tables.figure_specs import FIGURE3_LEFT, FIGURE3_RIGHT
from cwpo.report.tables.grid import fill
from cwpo.report.tables.spec import Spec


def figure3_left(results: Results, folder: Path) -> list[Path]:
    """CW-PO and WS-PO; a column per data set, GRA above mean gold reward."""
    return _draw(results, folder, FIGURE3_LEFT)


def figure3_right(results: Results, folder: Path) -> list[Path]:
    """CW-PO and DPO on the labeled part."""
    return _draw(results, folder, FIGURE3_RIGHT)


def _draw(results: Results, folder: Path, spec: Spec) -> list[Path]:
    grid = fill(spec, results)
    if grid is None:
        return []
    width, height = max(2.4 * len(grid.sections), 3.3), 4.7
    with figure(2, len(grid.sections), width=width, height=height) as (fig, axes):
        for column, section in enumerate(grid.sections):
            for axis, name in zip(axes[:, column], ("gra", "reward")):
                for index, label in enumerate(grid.columns):
                    cells = [row[index] for _, row in section.rows]
                    shares = [100 * cell["human_fraction"] for cell in cells]
                    color = COLORS[cells[0]["method"]]
                    points(axis, shares, cells, name, color=color, label=label)
                    if name == "gra":
                        look = {"color": color, "marker": "os"[index], "label": f"{label}, paper"}
                        theirs(axis, shares, cells, **look)
                mark_not_run(axis, [cell for _, row in section.rows for cell in row])
                axis.set_xticks(shares)
            models, _, name = section.label.rpartition(", ")
            axes[0, column].set_title(f"{name}\n{models.partition(' (')[0]}")
            axes[1, column].set_xlabel("labeled pairs, %")
        axes[0, 0].set_ylabel("GRA, %")
        axes[1, 0].set_ylabel("mean gold reward")
        legend(fig, 2)
        head(fig, spec.title, results.scale, sizes(grid.cells, grid.seeds))
        return save(fig, folder / spec.name)
