"""Tables of control arms that the paper lacks.

They also show how well an arm's margin_agreement (see with_agreement) predicts its rank by gold reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.tables.arms import HH, OPT_SMALL, QWEN_MID
from cwpo.report.tables.cells import outcome
from cwpo.report.tables.grid import Grid
from cwpo.report.tables.kinds import ARMS
from cwpo.report.tables.page import Page
from cwpo.report.tables.render import pages
from cwpo.report.tables.spec import Item, Spec, data, fixed, method, models

SHARE = 0.3


def with_agreement(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Returns outcome(results, cells) with one more key, `margin_agreement`: the mean over runs of
    E[weight · label (±1) · gold gap] / E[weight · |gold gap|]."""
    cell = outcome(results, cells)
    return cell and {**cell, "margin_agreement": float(pd.concat(cells)["margin_agreement"].mean())}


def items(sft: str) -> dict[str, Item]:
    """Returns short name -> Item. Arms start from their own SFT model (`sft` "own") or from Human's (`sft` "human")."""
    of_sft: dict[str, Any] = {"sft_labels": sft}
    weighted = {"method": "cw_po", **of_sft}
    most_confident = {"method": "filter", "keep_fraction": SHARE, **of_sft}
    return {
        "human": Item("Human", {"method": "human"}),  # the same run for both `sft`: its own SFT model is the common one
        "gold": Item("Gold labels", {"method": "gold", **of_sft}),
        "flips": Item("Gold, uniform flips", {"method": "flips", **of_sft}),
        "ws_dpo": method("ws_dpo", optional=True, **of_sft),
        "ws": method("ws_bt", **of_sft),
        "cw_dpo": method("cw_dpo_annotator", optional=True, **of_sft),
        "cw": Item("CW-PO", {"weighting": "c1", **weighted}),
        "normalized": Item("CW-PO, mean weight 1", {"weighting": "c1_normalized", **weighted}),
        "permuted": Item("CW-PO, weights permuted", {"weighting": "c1_permuted", **weighted}),
        "top": Item("Top 30 %, equal epochs", {"equal_steps": False, **most_confident}),
        "top_steps": Item("Top 30 %, equal steps", {"equal_steps": True, **most_confident}),
    }


CONTRASTS = (
    ("cw", "ws_dpo"),
    ("cw", "ws"),
    ("cw_dpo", "ws_dpo"),
    ("cw", "human"),
    ("cw", "normalized"),
    ("normalized", "ws"),
    ("cw", "permuted"),
    ("permuted", "ws"),
    ("ws", "flips"),
    ("ws", "human"),
    ("gold", "human"),
    ("top", "ws"),
    ("top_steps", "ws"),
    ("top_steps", "top"),
)


def controls_spec(name: str, title: str, about: str, sft: str) -> Spec:
    """Returns the spec of the control arms, each with its own SFT model (`sft` "own") or all with Human's ("human")."""
    of = items(sft)
    return Spec(
        name,
        title,
        about,
        columns=fixed(*of.values()),
        rows=(data(*HH[:2]),),
        sections=(models(OPT_SMALL, QWEN_MID),),
        experiments=("controls",),
        contrasts=tuple((of[a], of[b]) for a, b in CONTRASTS),
        kind=replace(
            ARMS,
            cell=with_agreement,
            averages=False,
            second=replace(ARMS.second, beside=("margin_agreement", "M"), short="gold reward (M)"),
        ),
    )


ABOUT = (
    "Weights divided by their mean (the same step size as without weights), weights dealt out to pairs at random (a placebo with "
    "the same step size as CW-PO), gold labels with as many uniform flips as the annotator makes errors, gold labels, and the "
    "most confident pairs at as many epochs, or at as many steps, as all pairs. "
)
OWN = controls_spec("controls", "Controls", ABOUT + "Every arm starts from its own SFT model, as in the paper.", "own")
COMMON = controls_spec(
    "controls_common_sft",
    "Controls from one SFT model",
    ABOUT + "All arms start from the Human arm's SFT model, so they share the baseline of GRA.",
    "human",
)


def controls(results: Results) -> list[Page]:
    """Returns the pages of tables OWN and COMMON, with rank correlations of margin_agreement and gold reward by arm."""
    return [page for spec in (OWN, COMMON) for page in pages(spec, results, below=_predicts)]


def _predicts(grid: Grid) -> str:
    lines = []
    for section in grid.sections:
        for label, cells in section.rows:
            ran = [(cell["margin_agreement"], cell["reward"]) for cell in cells if "reward" in cell]
            if len(ran) > 2 and all(len(set(values)) > 1 for values in zip(*ran)):
                rank = spearmanr(*zip(*ran)).statistic
                lines.append([f"{section.label}, {label}", f"{rank:.2f}", str(len(ran))])
    if not lines:
        return ""
    return (
        "M = E[w·s·Δgold] / E[w·|Δgold|] is the margin-weighted agreement of an arm's labels s = ±1 and weights w with gold. "
        "Spearman's rank correlation of M with mean gold reward over the arms:\n\n"
        + markdown_table(["", "rank correlation", "arms"], lines)
    )
