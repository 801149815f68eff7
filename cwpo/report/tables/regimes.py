"""When weak labels and confidence help: over label noise, number of pairs and update size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES, label
from cwpo.report.tables.cells import RULE, compare, excludes_zero, outcome
from cwpo.report.tables.kinds import ARMS
from cwpo.report.tables.page import Page

REGIME = ("label_flip", "data_pairs", "learning_rate")
METHODS = ("human", "ws_dpo", "ws_dpo_likelihood", "ws_bt", "cw_po", "filter")
# By the end of a figure's name: method a less method b.
CONTRASTS = {
    "cw_human": ("cw_po", "human"),
    "cw_ws_dpo": ("cw_po", "ws_dpo"),
    "cw_ws_bt": ("cw_po", "ws_bt"),
    "top_ws_bt": ("filter", "ws_bt"),
}


def contrast_title(contrast: str) -> str:
    """`CW-PO − Human`."""
    return " − ".join(SWEPT_NAMES[method] for method in CONTRASTS[contrast])


@lru_cache(maxsize=1)
def differences(results: Results) -> pd.DataFrame:
    """One row per contrast, label noise, number of pairs and learning rate, as `compare` gives it; empty if nothing ran."""
    return pd.DataFrame(
        {**where, "contrast": name, **cell}
        for where, rows in _regimes(results)
        for name, (a, b) in CONTRASTS.items()
        if (cell := compare(results, rows[rows["method"] == a], rows[rows["method"] == b], ARMS.same))
    )


@lru_cache(maxsize=1)
def arms(results: Results) -> pd.DataFrame:
    """One row per method, label noise, number of pairs and learning rate, as `outcome` gives it; empty if nothing ran."""
    return pd.DataFrame(
        {**where, "method": name, **cell}
        for where, rows in _regimes(results)
        for name in METHODS
        if (cell := outcome(results, rows[rows["method"] == name]))
    )


def _regimes(results: Results) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Label noise, number of pairs and learning rate, with the runs that have them."""
    for values, rows in results.of("regimes").groupby(list(REGIME), sort=True):
        yield dict(zip(REGIME, values)), rows


def regimes(results: Results) -> list[Page]:
    """Differences as tables, one per contrast and learning rate, and each arm's mean gold reward."""
    cells = differences(results)
    if not len(cells):
        return []
    runs = results.of("regimes")
    sizes = f"{', '.join(map(str, sorted(set(runs['seed']))))}; {int(cells['prompts'].min()):,} prompts (all seeds together) per cell"
    names = sorted({f"{label(w)} → {label(s)}" for w, s in zip(runs["weak"], runs["strong"])})
    parts = [
        f"{', '.join(names)}. Difference of mean gold rewards, in brackets its 95 % interval, bold where that excludes 0. "
        f"{RULE} Seeds {sizes}. Label noise is the share of human labels that the world flips at random, on top of people's "
        "own disagreement."
    ]
    for contrast in CONTRASTS:
        for rate, at_rate in cells[cells["contrast"] == contrast].groupby("learning_rate"):
            parts.append(f"### {contrast_title(contrast)}, learning rate {rate:g}\n\n{_table(at_rate)}")
    commits = runs["git_commit"]
    of_arms = arms(results)
    parts.append(f"### Mean gold reward of each arm\n\n{_rewards(of_arms)}")
    title = "When does it work? Label noise, number of pairs, update size"
    return [
        Page("regimes", title, "\n\n".join(parts), cells, commits),
        Page("regimes_arms", f"{title}: every arm", None, of_arms, commits, experiment="regimes"),
    ]


def _table(cells: pd.DataFrame) -> str:
    sizes = sorted(set(cells["data_pairs"]))
    lines = []
    for noise, row in cells.groupby("label_flip"):
        by_size = {cell["data_pairs"]: cell for cell in row.to_dict("records")}
        lines.append([f"noise {noise:g}", *(_cell(by_size.get(size)) for size in sizes)])
    return markdown_table(["", *(f"{int(size):,} pairs" for size in sizes)], lines)


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    mean = f"{cell['difference']:+.3f}"
    mark = "**" if excludes_zero(cell, "difference") else ""
    return f"{mark}{mean}{mark} [{cell['difference_low']:.3f}, {cell['difference_high']:.3f}]"


def _rewards(cells: pd.DataFrame) -> str:
    methods = [name for name in METHODS if name in set(cells["method"])]
    lines = []
    for (noise, size, rate), rows in cells.groupby(list(REGIME)):
        of = {row["method"]: f"{row['reward']:.3f}" for row in rows.to_dict("records")}
        lines.append(
            [f"noise {noise:g}, {int(size):,} pairs, {rate:g}", *(of.get(name, "not run") for name in methods)]
        )
    return markdown_table(["", *(SWEPT_NAMES[name] for name in methods)], lines)
