"""When weak labels and confidence help: over label noise, number of pairs and update size."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.grid import fill
from cwpo.report.tables.kinds import ARMS
from cwpo.report.tables.spec import Spec, fixed, method, models, swept

METHODS = ("human", "ws_dpo", "ws_dpo_likelihood", "ws_bt", "cw_po", "filter")
ITEMS = {name: replace(method(name, optional=True), label=SWEPT_NAMES[name]) for name in METHODS}
# By the end of a figure's name: method a less method b.
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
    same=("label_flip", "data_pairs", "learning_rate"),
    kind=replace(ARMS, averages=False, on_arms=False),
)


def regimes(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells that ran, and differences, of each label noise, number of pairs and learning rate; both empty if nothing ran."""
    grid = fill(REGIMES, results)
    if grid is None:
        return pd.DataFrame(), pd.DataFrame()
    cells, gains = pd.DataFrame(grid.cells), pd.DataFrame(grid.differences)
    settings = cells.drop_duplicates("section").set_index("section")[["label_flip", "learning_rate"]]
    return cells.dropna(subset="seeds"), gains.join(settings, on="section", how="inner").dropna(subset="data_pairs")
