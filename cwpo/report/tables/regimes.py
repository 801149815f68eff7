"""Tables that show when weak labels and confidence help, by label noise, number of pairs and update size."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.cells import compare
from cwpo.report.tables.grid import fill
from cwpo.report.tables.kinds import ARMS
from cwpo.report.tables.spec import Spec, fixed, method, models, swept

REGIME = ("label_flip", "data_pairs", "learning_rate")
METHODS = ("human", "ws_dpo", "ws_dpo_likelihood", "ws_bt", "cw_po", "filter")
ITEMS = {name: replace(method(name, optional=True), label=SWEPT_NAMES[name]) for name in METHODS}
# End of a figure's file name -> methods (a, b); the figure shows the difference a - b.
CONTRASTS = {
    "cw_human": ("cw_po", "human"),
    "cw_ws_dpo": ("cw_po", "ws_dpo"),
    "cw_ws_bt": ("cw_po", "ws_bt"),
    "top_ws_bt": ("filter", "ws_bt"),
}
REGIMES = Spec(
    "regimes",
    "When does it work? Label noise, number of pairs, update size",
    "Label noise is the share of human labels that the world flips at random, on top of people's own disagreement.",
    columns=fixed(*ITEMS.values()),
    rows=(models(short=True), swept("data_pairs", "{:,.0f} pairs")),
    sections=(swept("learning_rate", "learning rate {:g}"), swept("label_flip", "noise {:g}")),
    contrasts=tuple((ITEMS[a], ITEMS[b]) for a, b in CONTRASTS.values()),
    split="data_pairs",
    same=REGIME,
    kind=replace(ARMS, averages=False, on_arms=False),
)


def arms(results: Results) -> pd.DataFrame:
    """Returns the cells of the table REGIMES that have runs, one row each; empty if there are none."""
    grid = fill(REGIMES, results)
    return pd.DataFrame() if grid is None else pd.DataFrame(grid.cells).dropna(subset="seeds")


@lru_cache(maxsize=1)
def differences(results: Results) -> pd.DataFrame:
    """Returns a row of numbers from `compare` per contrast, label noise, number of pairs and learning rate.

    Rows are left out where one of the two methods of the contrast did not run.
    """
    return pd.DataFrame(
        {**dict(zip(REGIME, values)), "contrast": name, **cell}
        for values, rows in results.of("regimes").groupby(list(REGIME), sort=True)
        for name, (a, b) in CONTRASTS.items()
        if (cell := compare(results, rows[rows["method"] == a], rows[rows["method"] == b], ARMS.same))
    )
