"""The style of all figures: Okabe-Ito colours, readable at column width. Equal numbers give files of equal bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES, scale_note, the_point
from cwpo.report.tables.cells import NOT_RUN, counts
from cwpo.report.tables.frontier import methods_of
from cwpo.report.tables.grid import Grid

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
SKY, YELLOW, BROWN, OLIVE = "#56B4E9", "#E69F00", "#6B4226", "#A8A800"
COLORS = {
    "human": GREY,
    "human_labeled": GREY,
    "ws_dpo": ORANGE,
    "ws_dpo_likelihood": YELLOW,
    "ws_bt": PURPLE,
    "cw_po": BLUE,
    "cw_dpo_annotator": SKY,
    "filter": GREEN,
    "online_ws_po": BROWN,
    "online_cw_po": "black",
    "online_rm": OLIVE,
}
HOLLOW: Any = {"ls": "none", "mfc": "none", "ms": 5, "mew": 1}  # marks of the paper's numbers
LOOK: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "legend.frameon": False,
    "figure.titlesize": 8,
    "svg.hashsalt": "cwpo",
}


@contextmanager
def figure(
    path: Path,
    results: Results,
    shape: tuple[int, int] = (1, 1),
    *,
    size: tuple[float, float],
    title: str,
    sizes: str,
    legend: int = 0,
    pdf: bool = True,
) -> Iterator[tuple[Any, Any]]:
    """Yields a figure and its axes, an array of `shape`, to draw in; then writes the figure to `path` as PNG and PDF.

    `size` is (width, height) in inches. With pdf=False only the PNG is written. The heading gives `title`, the scale,
    `sizes` (how many seeds and prompts) and the operating point, if `results` are restricted to one. One legend of
    `legend` columns stands below all axes (0: no legend). Panels without data are hidden.
    """
    with plt.rc_context(LOOK):
        fig, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
        yield fig, axes
        for axis in axes.flat:
            if not (axis.has_data() or axis.texts):
                axis.set_axis_off()
        if legend:
            _legend(fig, legend)
        note = re.sub(r"10\^(\d)", r"$10^\1$", scale_note(results.scale))
        title += f", {the_point(results.point)}" if results.point and results.arms["point"].notna().any() else ""
        fig.suptitle("\n".join(filter(None, (title, note, sizes))))
        _save(fig, path, pdf)


def table_figure(grid: Grid, results: Results, folder: Path, **more: Any) -> AbstractContextManager[tuple[Any, Any]]:
    """Calls `figure` with name, title, seeds and prompts of the filled table `grid`, and with the arguments `more`."""
    spec = grid.spec
    return figure(folder / spec.name, results, title=spec.title, sizes=sizes(grid.cells, grid.seeds), **more)


def files(path: Path) -> list[Path]:
    """Returns the paths of the PNG and the PDF of a figure."""
    return [path.with_suffix(".png"), path.with_suffix(".pdf")]


def sizes(cells: Sequence[dict[str, Any]], seeds: Iterable[int], what: str = "prompts") -> str:
    """Returns two lines for a figure's heading: numbers of seeds and prompts, and the meaning of bars and bands.

    `what` is the plural noun for what was counted as prompts, e.g. "pairs".
    """
    return f"{counts(cells, seeds, what)};\nbars and bands: 95 % intervals"


def _legend(fig: Any, columns: int) -> None:
    """Draws one legend below all axes, with every label once."""
    of_axes = [axis.get_legend_handles_labels() for axis in fig.axes]
    named = {label: handle for handles, labels in of_axes for handle, label in zip(handles, labels)}
    if named:  # arms (with error bars) before plain lines and marks
        ordered = dict(sorted(named.items(), key=lambda item: isinstance(item[1], Line2D)))
        fig.legend(list(ordered.values()), list(ordered), loc="outside lower center", ncols=columns)


def points(axis: Any, x: Sequence[float], cells: Sequence[dict[str, Any]], name: str, **look: Any) -> None:
    """Draws cell[name], a mean, of each cell at its x, with its interval as a bar, and a line that joins the means.

    Skips cells that were not run. `look` has the arguments of matplotlib's errorbar.
    """
    ran = [(at, cell) for at, cell in zip(x, cells) if pd.notna(cell.get(name))]
    if not ran:
        return
    means = [cell[name] for _, cell in ran]
    below = [cell[name] - cell[f"{name}_low"] for _, cell in ran]
    above = [cell[f"{name}_high"] - cell[name] for _, cell in ran]
    look = {"marker": "o", "ms": 3.5, "lw": 1.2, "capsize": 2, "elinewidth": 0.8} | look
    axis.errorbar([at for at, _ in ran], means, yerr=[below, above], **look)


def over_rates(axis: Any, cells: pd.DataFrame, number: str, rates: Sequence[float]) -> None:
    """Draws the column `number` of `cells` against the learning rate, with ticks at `rates`; a line for each method."""
    for method in methods_of(cells):
        of = cells[cells["method"] == method]
        look = {"color": COLORS.get(method, "black"), "label": SWEPT_NAMES[method]}
        points(axis, of["learning_rate"].tolist(), of.to_dict("records"), number, **look)
    axis.set_xscale("log")
    axis.set_xticks(rates, [rate_label(rate) for rate in rates])
    axis.minorticks_off()
    axis.set_xlabel("learning rate")


def rate_label(rate: float) -> str:
    """Formats a learning rate as `5e-5`, with one digit."""
    return f"{rate:.0e}".replace("e-0", "e-")


def level(axis: Any, cell: dict[str, Any], name: str, color: str, label: str) -> None:
    """Draws a horizontal line at cell[name], a mean, and a band for its interval, if the cell ran."""
    if pd.notna(cell.get(name)):
        axis.axhspan(cell[f"{name}_low"], cell[f"{name}_high"], color=color, alpha=0.18, lw=0)
        axis.axhline(cell[name], color=color, lw=1.2, label=label)


def theirs(axis: Any, x: Sequence[float], cells: Sequence[dict[str, Any]], **look: Any) -> None:
    """Draws the paper's number of each cell at its x as a hollow mark; skips cells without a published number."""
    known = [(at, cell["paper"]) for at, cell in zip(x, cells) if pd.notna(cell["paper"])]
    if known:
        axis.plot(*zip(*known), **(HOLLOW | {"marker": "s"} | look))


def mark_not_run(axis: Any, cells: Sequence[dict[str, Any]]) -> None:
    """Writes `not run` into a panel if none of its cells ran."""
    if not any("seeds" in cell for cell in cells):
        axis.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=axis.transAxes, color=GREY)


def _save(fig: Any, path: Path, pdf: bool) -> None:
    """Writes PNG and PDF without dates in them, and closes the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.draw_without_rendering()
    fig.set_layout_engine(None)  # the layout is final; with any engine each file would draw twice
    box = fig.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])  # "tight" would draw once more for each file
    png, vector = files(path)
    fig.savefig(png, dpi=200, bbox_inches=box, metadata={"Software": None})
    if pdf:
        fig.savefig(vector, bbox_inches=box, metadata=dict.fromkeys(("CreationDate", "Producer", "Creator")))
    plt.close(fig)
