"""Margin-weighted agreement of an arm's labels with gold, against the gold reward of the model trained on them."""

from __future__ import annotations

from pathlib import Path

from cwpo.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    figure,
    head,
    legend,
    save,
    sizes,
)
from cwpo.report.inputs import Results
from cwpo.report.tables.controls import COMMON, OWN
from cwpo.report.tables.grid import fill

COLORS = (GREY, "black", YELLOW, ORANGE, BLUE, SKY, PURPLE, GREEN, GREEN)
MARKERS = "sPXovD^<>"


def controls(results: Results, folder: Path) -> list[Path]:
    """A panel per pair of models and data set; above with own SFT models, below with the common one."""
    grids = [grid for grid in (fill(OWN, results), fill(COMMON, results)) if grid is not None]
    if not grids:
        return []
    panels = [(section, row) for section in grids[0].sections for row in section.rows]
    with figure(len(grids), len(panels), width=2.0 * len(panels) + 0.3, height=2.1 * len(grids) + 1.4) as (
        fig,
        axes,
    ):
        for line, grid in enumerate(grids):
            rows = [(section, row) for section in grid.sections for row in section.rows]
            for axis, (section, (label, cells)) in zip(axes[line], rows):
                for name, color, marker, cell in zip(grid.columns, COLORS, MARKERS, cells):
                    if "reward" in cell:
                        bars = [[cell["reward"] - cell["reward_low"]], [cell["reward_high"] - cell["reward"]]]
                        look = {"color": color, "marker": marker, "ms": 4.5, "ls": "none", "elinewidth": 0.7}
                        axis.errorbar(
                            [cell["margin_agreement"]], [cell["reward"]], yerr=bars, label=name, **look
                        )
                sft = "own SFT" if grid.spec is OWN else "common SFT"
                axis.set_title(f"{section.label.partition(' (')[0]}\n{label}, {sft}")
            axes[line, 0].set_ylabel("mean gold reward")
        for axis in axes[-1]:
            axis.set_xlabel("agreement with gold, M")
        legend(fig, 5)
        head(fig, "Controls: what the labels are worth", results.scale, sizes(grids[0].cells, grids[0].seeds))
        return save(fig, folder / "controls")
