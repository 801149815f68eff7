"""The numbers behind Figures 2 to 5 as tables; the figures draw the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.tables.arms import (
    CW,
    FRACTIONS,
    HH,
    HUMAN,
    OPT_SMALL,
    QWEN_MID,
    TOP_STEPS,
    WEAK,
    WS_DPO,
    labeled,
    most_confident,
    top,
)
from cwpo.report.tables.cells import compare
from cwpo.report.tables.kinds import ARMS, Number
from cwpo.report.tables.spec import Item, Spec, data, fixed, method, models

HUMAN_LABELED = method("human_labeled", "human")
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)


def label_fractions(name: str, title: str, about: str, *others: Item) -> Spec:
    """Returns the spec of half of Figure 3: columns CW-PO and `others`, rows by labeled share, sections by data set."""
    return Spec(
        name,
        title,
        about,
        columns=fixed(CW, *others),
        rows=(fixed(*map(labeled, FRACTIONS)),),
        sections=(models(OPT_SMALL), data("harmless", "helpful")),
        contrasts=tuple((CW, other) for other in others),
        split="human_fraction",
        same=("human_fraction",),
        kind=replace(ARMS, averages=False),
    )


def against_human(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Compares CW-PO with Human on the same prompts over all cells (see `compare`); {} if a cell lacks one of them."""

    def compared(rows: pd.DataFrame) -> dict[str, Any]:
        cw, human = (rows[rows["method"] == item.where["method"]] for item in (CW, HUMAN))
        return compare(results, cw, human, ARMS.same)

    return compared(pd.concat(cells)) if all(map(compared, cells)) else {}


FIGURE2 = most_confident(
    "figure2", "Figure 2: the most confident pairs", models(OPT_SMALL, QWEN_MID), sources=("table10", "table11")
)
FIGURE3_LEFT = label_fractions(
    "figure3_left",
    "Figure 3, left: labeled share, the unlabeled half of the pairs fixed",
    "The annotator learns from more or fewer human labels; it always labels the same unlabeled half.",
    *WEAK,
)
FIGURE3_RIGHT = label_fractions(
    "figure3_right",
    "Figure 3, right: labeled share of a fixed pool",
    "CW-PO aligns on the pairs without a human label, DPO on those with one: the two divide one pool.",
    HUMAN_LABELED,
)
FIGURE4 = Spec(
    "figure4",
    "Figure 4: confidence thresholds",
    "DPO on the most confident weak labels, at nine thresholds, and CW-PO, which needs none. " + TOP_STEPS,
    columns=fixed(*(top(share) for share in (*THRESHOLDS, 1.0)), CW),
    rows=(data(*HH),),
    sections=(models(OPT_SMALL),),
    contrasts=tuple((CW, other) for other in (*map(top, (*THRESHOLDS, 1.0)), *WS_DPO)),
)
FIGURE5 = Spec(
    "figure5",
    "Figure 5: CW-PO against Human, prompt by prompt",
    "Gold rewards of the two aligned models' answers to the same prompts.",
    columns=fixed(Item("CW-PO against Human", {}, {"method": "cw_po"})),
    rows=(data("harmless", "helpful", "hh_rlhf", "tldr"),),
    sections=(models(QWEN_MID),),
    kind=replace(
        ARMS,
        cell=against_human,
        main=Number("win_rate", "win rate %", 1),
        second=Number("difference", "Difference of mean gold rewards", 3, short="gold reward"),
        metric="win_rate_vs_human_arm",
        cells_rule="Win rate: share of test prompts on which CW-PO's answer has the higher gold reward, ties half. "
        + ARMS.differences_rule,
    ),
)
FIGURE_SPECS = (FIGURE2, FIGURE3_LEFT, FIGURE3_RIGHT, FIGURE4, FIGURE5)
