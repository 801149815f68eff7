"""Draws when weak labels and confidence help: heat maps over noise and number of pairs, curves over learning rate."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.patches import Rectangle

from cwpo.report.figures.style import figure, files, over_rates, rate_label, sizes
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.cells import excludes_zero
from cwpo.report.tables.regimes import CONTRASTS, arms, differences

MEASURES = (("difference", "gold reward", "{:+.2f}"), ("gra_difference", "GRA, points", "{:+.1f}"))


def regimes_sizes(results: Results, folder: Path) -> list[Path]:
    """Draws each arm's mean gold reward against the learning rate; a panel per label noise and number of pairs."""
    cells = arms(results)
    if not len(cells):
        return []
    noises, pairs = sorted(set(cells["label_flip"])), sorted(set(cells["data_pairs"]))
    with figure(
        path := folder / "regimes_sizes",
        results,
        (len(noises), len(pairs)),
        size=(2.3 * len(pairs), 1.8 * len(noises) + 1.3),
        title="Every arm over the update size",
        sizes=sizes(cells.to_dict("records"), results.of("regimes")["seed"]),
        legend=4,
    ) as (_, axes):
        for (row, noise), (column, size) in itertools.product(enumerate(noises), enumerate(pairs)):
            axis = axes[row, column]
            here = cells[(cells["label_flip"] == noise) & (cells["data_pairs"] == size)]
            over_rates(axis, here, "reward", sorted(set(cells["learning_rate"])))
            axis.set_xlabel("learning rate" if row == len(noises) - 1 else "")
            axis.set_title(f"noise {noise:g}, {int(size):,} pairs")
        for axis in axes[:, 0]:
            axis.set_ylabel("mean gold reward")
    return files(path)


def heat_maps(contrast: str, results: Results, folder: Path) -> list[Path]:
    """Draws heat maps of the difference of two methods, CONTRASTS[contrast], over label noise and number of pairs.

    The upper row shows mean gold reward, the lower row GRA; each column is a learning rate.
    """
    every = differences(results)
    if not len(every) or contrast not in set(every["contrast"]) or "difference" not in every:
        return []
    cells = every[every["contrast"] == contrast]
    rates = sorted(set(cells["learning_rate"]))
    note = sizes(cells.to_dict("records"), results.of("regimes")["seed"]).partition(";")[0]
    with figure(
        path := folder / f"regimes_{contrast}",
        results,
        (len(MEASURES), len(rates)),
        size=(1.75 * len(rates) + 0.6, 4.9),
        title="When does it work? " + " − ".join(SWEPT_NAMES[method] for method in CONTRASTS[contrast]),
        sizes=f"{note};\n* and frame: the 95 % interval excludes 0",
    ) as (fig, axes):
        for line, (name, words, form) in zip(axes, MEASURES):
            most = float(cells[name].abs().max()) or 1.0
            for axis, rate in zip(line, rates):
                here = cells[cells["learning_rate"] == rate].set_index(["label_flip", "data_pairs"])
                image = _heat_map(axis, here, cells, name, form, most)
            line[0].set_ylabel(f"{words}\nlabel noise")
            fig.colorbar(image, ax=line.tolist(), fraction=0.03, pad=0.01)
        for first, last, rate in zip(axes[0], axes[-1], rates):
            first.set_title(f"learning rate {rate_label(rate)}")
            last.set_xlabel("pairs")
    return files(path)


HEAT_MAPS = tuple(partial(heat_maps, contrast) for contrast in CONTRASTS)


def _heat_map(axis: Any, here: pd.DataFrame, cells: pd.DataFrame, name: str, form: str, most: float) -> Any:
    """Draws a heat map of the column `name` of `here` over label noise and number of pairs; returns the image.

    `here` has the rows of `cells` at one learning rate; the axes show all noises and numbers of pairs in `cells`.
    Colours span ±`most`; `form` formats numbers; * and a frame mark intervals that exclude 0.
    """
    noises, pairs = sorted(set(cells["label_flip"])), sorted(set(cells["data_pairs"]))
    grid = here[name].unstack().reindex(index=noises, columns=pairs).astype(float)
    # Red and blue differ for people who cannot tell red from green.
    image = axis.imshow(grid.to_numpy(), cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (y, noise), (x, size) in itertools.product(enumerate(noises), enumerate(pairs)):
        text, look = "not run", {"fontsize": 6.0, "color": "black"}
        if (noise, size) in here.index:
            cell = here.loc[(noise, size)]
            text, color = form.format(cell[name]), "white" if abs(cell[name]) > 0.6 * most else "black"
            look = {"fontsize": 7.0, "color": color}
            if excludes_zero(cell, name):
                text += "*"
                axis.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, lw=1.2, ec="black"))
        axis.text(x, y, text, ha="center", va="center", **look)
    axis.set_xticks(range(len(pairs)), [f"{int(size):,}" for size in pairs])
    axis.set_yticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    axis.tick_params(length=0)
    return image
