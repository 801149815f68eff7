"""One look for all figures: Okabe-Ito colours, readable at column width, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
LOOK: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "svg.hashsalt": "cwpo",
}


@contextmanager
def figure(rows: int, columns: int, *, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure and its (rows, columns) array of axes, sizes in inches; the look holds for what is drawn inside."""
    with plt.rc_context(LOOK):
        yield plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")


def save(fig: Any, path: Path) -> list[Path]:
    """Write PNG and PDF without dates in them, and close the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png, pdf = path.with_suffix(".png"), path.with_suffix(".pdf")
    fig.savefig(png, dpi=200, bbox_inches="tight", metadata={"Software": None})
    fig.savefig(pdf, bbox_inches="tight", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    plt.close(fig)
    return [png, pdf]
