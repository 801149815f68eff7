"""Figure 7: how sure the annotator is, by data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cwpo.report.figures.style import BLUE, ORANGE, figure, head, legend, save
from cwpo.report.inputs import Results, datasets
from cwpo.report.names import DATA_NAMES, label

ENOUGH = 30  # fewer pairs in a bin give no accuracy worth a point


def figure7(results: Results, folder: Path) -> list[Path]:
    """Histogram of C over the unlabeled pairs, and over it the accuracy of the labels of each bin; a panel per data set."""
    table = results.confidences
    table = table[table["annotator"] == "bt"]
    if not len(table):
        return []
    names, columns = datasets(table), 3
    rows = -(-len(names) // columns)
    models = sorted(set(table["weak"]))
    with figure(rows, columns, width=6.9, height=2.0 * rows + 1.3) as (fig, axes):
        for place, (axis, name) in enumerate(zip(axes.flat, names)):
            bins = (
                table[table["data"] == name]
                .groupby(["low", "high"])[["pairs", "agree_gold"]]
                .sum()
                .reset_index()
            )
            total, width = bins["pairs"].sum(), (bins["high"] - bins["low"]).to_numpy()
            share = 100 * bins["pairs"] / total
            axis.bar(bins["low"], share, width=width, align="edge", color=BLUE, lw=0, label="share of pairs")
            right = axis.twinx()
            enough = bins[bins["pairs"] >= ENOUGH]
            right.plot(
                (enough["low"] + enough["high"]) / 2,
                100 * enough["agree_gold"] / enough["pairs"],
                color=ORANGE,
                marker="o",
                ms=2.5,
                lw=1,
                label="labels that agree with gold",
            )
            right.axhline(50, color="black", lw=0.8, ls=":", label="chance, 50 %")
            right.set_ylim(30, 102)
            right.spines["right"].set_visible(True)
            centre = (bins["low"] + bins["high"]) / 2
            mean = float(np.average(centre, weights=bins["pairs"]))
            axis.set_title(f"{DATA_NAMES.get(name, name)}, mean C {mean:.2f}")
            axis.set_xlim(0, 1)
            if place % columns == 0:
                axis.set_ylabel("pairs, %")
            if place % columns == columns - 1 or place == len(names) - 1:
                right.set_ylabel("agree with gold, %")
            axis.set_xlabel("confidence C")
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        legend(fig, 3)
        seeds = ", ".join(map(str, sorted(set(table["seed"]))))
        head(
            fig,
            f"Figure 7: confidence of {', '.join(map(label, models))}",
            results.scale,
            f"seeds {seeds}; {int(table['pairs'].sum()):,} pairs in all; points: bins of {ENOUGH} pairs and more",
        )
        return save(fig, folder / "figure7")
