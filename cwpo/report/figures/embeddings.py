"""Figure 6: the policy's own responses among those that the annotator learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cwpo.report.collect import DATA_NAMES, Results, datasets
from cwpo.report.figures.style import BLUE, GREY, ORANGE, figure, head, legend, save
from cwpo.report.models import label
from cwpo.statistics import mean_shift

SOURCES = {
    "labeled": ("labeled, what the annotator learned", GREY, "o"),
    "offline": ("unlabeled, what it labels offline", BLUE, "^"),
    "online": ("the policy's own, what it labels online", ORANGE, "x"),
}


def figure6(results: Results, folder: Path) -> list[Path]:
    """First two principal components of mean hidden states; a panel per data set, all of its first seed and strong model."""
    table = results.embeddings
    if not len(table):
        return []
    names = datasets(table)
    strong, seed = sorted(set(table["strong"]))[0], int(table["seed"].min())
    with figure(1, len(names), width=max(2.6 * len(names), 3.3), height=3.9) as (fig, axes):
        shown = 0
        for axis, name in zip(axes.flat, names):
            here = table[(table["data"] == name) & (table["strong"] == strong) & (table["seed"] == seed)]
            clouds = {
                source: here[here["source"] == source][["x", "y"]].to_numpy(float) for source in SOURCES
            }
            for source, (title, color, marker) in SOURCES.items():
                look = {"s": 7, "lw": 0.7, "alpha": 0.65, "color": color, "marker": marker}
                axis.scatter(*clouds[source].T, label=title, **look)
            shifts = [_shift(clouds["labeled"], clouds[source]) for source in ("offline", "online")]
            axis.set_title(
                f"{DATA_NAMES.get(name, name)}\nshift of means: offline {shifts[0]:.2f}, online {shifts[1]:.2f}"
            )
            axis.set_xlabel("first component")
            shown = max(shown, len(here))
        axes.flat[0].set_ylabel("second component")
        legend(fig, 1)
        head(
            fig,
            f"Figure 6: responses as {label(strong)} (SFT) represents them",
            results.scale,
            f"seed {seed}, up to {shown:,} responses per panel;\nshift in units of the labeled responses' spread in this plane",
        )
        return save(fig, folder / "figure6")


def _shift(labeled: np.ndarray, others: np.ndarray) -> float:
    return mean_shift(labeled, others) if len(labeled) and len(others) else float("nan")
