"""Diagnostics shown beside a result that contradicts the paper."""

from __future__ import annotations

import pandas as pd

from cwpo.report.claims.measures import Measured

NUMBERS = ("reward", "reward_sft", "margin_agreement", "mean_length", "truncated_share")
LONGER, MORE_UNFINISHED = 1.1, 0.05  # a tenth more tokens, or 5 points more responses without an end


def diagnostics(measured: Measured) -> dict[str, dict[str, float]]:
    """Per side, means over its runs: gold reward of aligned and SFT model, margin agreement M, tokens, share unfinished.

    Numbers that no run of the side has are left out.
    """
    sides = {}
    for side, rows in measured.used.groupby("side"):
        runs = rows.drop_duplicates("run_key")
        means = {name: pd.to_numeric(runs[name]).mean() for name in NUMBERS}
        sides[str(side)] = {name: float(value) for name, value in means.items() if pd.notna(value)}
    return sides


def reasons(sides: dict[str, dict[str, float]], measured: Measured) -> tuple[str, ...]:
    """Sentences on why side a may be behind side b. They name differences that accompany the result, which need not cause it."""
    a, b = sides.get("a", {}), sides.get("b", {})
    known = set(a) & set(b)
    notes = []
    if "margin_agreement" in known:
        ours, theirs = a["margin_agreement"], b["margin_agreement"]
        values = f"M {ours:.2f} against {theirs:.2f}"
        if ours < theirs:
            notes.append(f"Its weighted labels agree less with gold ({values}), which goes with it.")
        else:
            notes.append(
                f"Its weighted labels agree no less with gold ({values}), so the loss is not in the labels."
            )
    if {"mean_length", "truncated_share"} <= known:
        longer = a["mean_length"] > LONGER * b["mean_length"]
        if longer or a["truncated_share"] > b["truncated_share"] + MORE_UNFINISHED:
            notes.append(
                f"Its responses run on ({a['mean_length']:.1f} tokens and {100 * a['truncated_share']:.0f} % unfinished, against "
                f"{b['mean_length']:.1f} and {100 * b['truncated_share']:.0f} %), as they do when a model is over-optimised."
            )
    if "reward_sft" in known and a["reward_sft"] > b["reward_sft"]:
        notes.append(
            f"Its SFT model, against which GRA measures it, is the better one (gold reward {a['reward_sft']:.2f} against "
            f"{b['reward_sft']:.2f})."
        )
    return tuple(notes)
