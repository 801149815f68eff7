"""When weak labels and confidence help: heat maps over label noise and number of pairs, curves over the update size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.figures.style import COLORS, figure, head, legend, points, rate_axis, rate_label, save, sizes
from cwpo.report.inputs import Results
from cwpo.report.names import METHOD_NAMES
from cwpo.report.tables.regimes import METHODS, arms, differences

MEASURES = (("difference", "gold reward", "{:+.2f}"), ("gra_difference", "GRA, points", "{:+.1f}"))


def regimes_cw_human(results: Results, folder: Path) -> list[Path]:
    """CW-PO less Human."""
    return _heat_maps(results, folder / "regimes_cw_human", "CW-PO − Human")


def regimes_cw_ws(results: Results, folder: Path) -> list[Path]:
    """CW-PO less WS-PO."""
    return _heat_maps(results, folder / "regimes_cw_ws", "CW-PO − WS-PO")


def regimes_top_ws(results: Results, folder: Path) -> list[Path]:
    """The 30 % most confident pairs less all of them."""
    return _heat_maps(results, folder / "regimes_top_ws", "Top 30 % − WS-PO")


def regimes_sizes(results: Results, folder: Path) -> list[Path]:
    """Each arm's mean gold reward over the learning rate; a panel per label noise and number of pairs."""
    cells = arms(results)
    if not len(cells):
        return []
    noises, pairs = sorted(set(cells["label_flip"])), sorted(set(cells["data_pairs"]))
    width, height = 2.3 * len(pairs), 1.8 * len(noises) + 1.3
    with figure(len(noises), len(pairs), width=width, height=height) as (fig, axes):
        for row, noise in enumerate(noises):
            for column, size in enumerate(pairs):
                axis = axes[row, column]
                here = cells[(cells["label_flip"] == noise) & (cells["data_pairs"] == size)]
                for name in METHODS:
                    of = here[here["method"] == name].sort_values("learning_rate").to_dict("records")
                    rates = [cell["learning_rate"] for cell in of]
                    points(axis, rates, of, "reward", color=COLORS[name], label=METHOD_NAMES[name])
                rate_axis(axis, sorted(set(cells["learning_rate"])))
                axis.set_xlabel("learning rate" if row == len(noises) - 1 else "")
                axis.set_title(f"noise {noise:g}, {int(size):,} pairs")
            axes[row, 0].set_ylabel("mean gold reward")
        legend(fig, 4)
        seeds = sorted(set(results.of("regimes")["seed"]))
        title = "Every arm over the update size (Top-N%: the 30 % most confident)"
        head(fig, title, results.scale, sizes(cells.to_dict("records"), seeds))
        return save(fig, folder / "regimes_sizes")


def _heat_maps(results: Results, path: Path, contrast: str) -> list[Path]:
    """A row per measure, a column per learning rate; a number with * where its interval excludes 0, framed."""
    found = differences(results)
    if not len(found) or contrast not in set(found["contrast"]):
        return []
    cells = found[found["contrast"] == contrast]
    rates = sorted(set(cells["learning_rate"]))
    noises, pairs = sorted(set(cells["label_flip"])), sorted(set(cells["data_pairs"]))
    with figure(len(MEASURES), len(rates), width=1.75 * len(rates) + 0.6, height=4.9) as (fig, axes):
        for row, (name, title, form) in enumerate(MEASURES):
            most = float(cells[name].abs().max()) or 1.0
            for column, rate in enumerate(rates):
                axis = axes[row, column]
                here = cells[cells["learning_rate"] == rate].set_index(["label_flip", "data_pairs"])
                grid = here[name].unstack().reindex(index=noises, columns=pairs).astype(float)
                # Red to blue is told apart by people who cannot tell red from green.
                image = axis.imshow(grid.to_numpy(), cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
                _numbers(axis, here, name, form, noises, pairs, most)
                axis.set_xticks(range(len(pairs)), [f"{int(size):,}" for size in pairs])
                axis.set_yticks(range(len(noises)), [f"{noise:g}" for noise in noises])
                axis.tick_params(length=0)
                if row == 0:
                    axis.set_title(f"learning rate {rate_label(rate)}")
            axes[row, 0].set_ylabel(f"{title}\nlabel noise")
            fig.colorbar(image, ax=axes[row, :].tolist(), fraction=0.03, pad=0.01)
        for axis in axes[-1]:
            axis.set_xlabel("pairs")
        seeds = sorted(set(results.of("regimes")["seed"]))
        note = sizes(cells.to_dict("records"), seeds).partition(";")[0]
        head(
            fig,
            f"When does it work? {contrast}",
            results.scale,
            f"{note};\n* and frame: the 95 % interval excludes 0",
        )
        return save(fig, path)


def _numbers(
    axis: Any,
    here: pd.DataFrame,
    name: str,
    form: str,
    noises: list[float],
    pairs: list[float],
    most: float,
) -> None:
    from matplotlib.patches import Rectangle

    for y, noise in enumerate(noises):
        for x, size in enumerate(pairs):
            if (noise, size) not in here.index:
                axis.text(x, y, "not run", ha="center", va="center", fontsize=6)
                continue
            cell = here.loc[(noise, size)]
            sure = bool(cell[f"{name}_low"] > 0 or cell[f"{name}_high"] < 0)
            color = "white" if np.abs(cell[name]) > 0.6 * most else "black"
            text = form.format(cell[name]) + ("*" if sure else "")
            axis.text(x, y, text, ha="center", va="center", fontsize=7, color=color)
            if sure:
                axis.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, lw=1.2, ec="black"))
