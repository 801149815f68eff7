"""Draws each arm's mean gold reward against M, the margin-weighted agreement of its labels with gold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cwpo.report.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, YELLOW, figure, files, sizes
from cwpo.report.inputs import Results
from cwpo.report.tables.controls import COMMON, OWN, items
from cwpo.report.tables.grid import Cell, fill

LOOKS = {
    "human": (GREY, "s"),
    "gold": ("black", "P"),
    "flips": ("black", "X"),
    "ws_dpo": (ORANGE, "o"),
    "ws": (PURPLE, "v"),
    "cw_dpo": (SKY, "D"),
    "cw": (BLUE, "o"),
    "normalized": (BLUE, "s"),
    "permuted": (YELLOW, "^"),
    "top": (GREEN, "<"),
    "top_steps": (GREEN, ">"),
}
BY_LABEL = {item.label: LOOKS[key] for key, item in items("own").items()}


def controls(results: Results, folder: Path) -> list[Path]:
    """Draws each arm's mean gold reward against M, the margin-weighted agreement of its labels with gold.

    Each column is a model pair and a data set. Upper row: each arm has its own SFT model; lower row: all share one.
    """
    grids = [grid for grid in (fill(OWN, results), fill(COMMON, results)) if grid is not None]
    if not grids:
        return []
    panels = sum(len(section.rows) for section in grids[0].sections)
    with figure(
        path := folder / "controls",
        results,
        (len(grids), panels),
        size=(2.0 * panels + 0.3, 2.1 * len(grids) + 1.4),
        title="Controls: what the labels are worth",
        sizes=sizes(grids[0].cells, grids[0].seeds),
        legend=5,
    ) as (_, axes):
        for line, grid in zip(axes, grids):
            sft = "own SFT" if grid.spec is OWN else "common SFT"
            rows = [(section, *row) for section in grid.sections for row in section.rows]
            for axis, (section, label, cells) in zip(line, rows):
                _panel(axis, grid.columns, cells)
                axis.set_title(f"{section.label.partition(' (')[0]}\n{label}, {sft}")
            line[0].set_ylabel("mean gold reward")
        for axis in axes[-1]:
            axis.set_xlabel("agreement with gold, M")
    return files(path)


def _panel(axis: Any, columns: list[str], cells: list[Cell]) -> None:
    for name, cell in zip(columns, cells):
        if "reward" in cell:
            bars = [[cell["reward"] - cell["reward_low"]], [cell["reward_high"] - cell["reward"]]]
            color, marker = BY_LABEL[name]
            look: Any = {"color": color, "marker": marker, "ms": 4.5, "ls": "none", "elinewidth": 0.7}
            axis.errorbar([cell["margin_agreement"]], [cell["reward"]], yerr=bars, label=name, **look)
