"""Diagnostics shown beside a result that contradicts the paper."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cwpo.report.claims.measures import Measured

NUMBERS = ("reward", "reward_sft", "margin_agreement", "kl", "mean_length", "truncated_share")
LONGER, MORE_UNFINISHED = 1.1, 0.05  # a tenth more tokens, or 5 points more responses without an end
NEARER = 0.9  # the share of the other side's KL below which a policy has moved measurably less


def diagnostics(measured: Measured) -> dict[str, dict[str, float]]:
    """Per side, means over its runs: gold reward of aligned and SFT model, margin agreement M, KL, tokens, share unfinished.

    Numbers that no run of the side has are left out.
    """
    sides = {}
    for side, rows in measured.used.groupby("side"):
        runs = rows.drop_duplicates("run_key")
        means = {name: pd.to_numeric(runs[name]).mean() for name in NUMBERS}
        sides[str(side)] = {name: float(value) for name, value in means.items() if pd.notna(value)}
    return sides


def reason(sides: dict[str, dict[str, float]]) -> str:
    """One sentence on why side a is behind side b; "" if the data show none of the known reasons.

    It names a difference that accompanies the result, which need not cause it. The measure comes first, then the labels, then
    how far the policy moved.
    """
    a, b = sides.get("a", {}), sides.get("b", {})
    return next(_reasons(a, b, set(a) & set(b)), "")


def _reasons(a: dict[str, float], b: dict[str, float], known: set[str]) -> Iterator[str]:
    if "reward_sft" in known and a["reward_sft"] > b["reward_sft"] and a["reward"] > b["reward"]:
        yield (
            f"Known reason: GRA measures it against its own SFT model, which is the better one (gold reward {a['reward_sft']:.2f} "
            f"against {b['reward_sft']:.2f}), and the aligned model too has the higher gold reward."
        )
    if "margin_agreement" in known and a["margin_agreement"] < b["margin_agreement"]:
        values = f"M {a['margin_agreement']:.2f} against {b['margin_agreement']:.2f}"
        yield f"Known reason: its weighted labels agree less with gold ({values})."
    if {"mean_length", "truncated_share"} <= known and (
        a["mean_length"] > LONGER * b["mean_length"] or a["truncated_share"] > b["truncated_share"] + MORE_UNFINISHED
    ):
        yield (
            f"Known reason: its responses run on ({a['mean_length']:.1f} tokens and {100 * a['truncated_share']:.0f} % unfinished, against "
            f"{b['mean_length']:.1f} and {100 * b['truncated_share']:.0f} %), as they do when a model is over-optimised."
        )
    if "kl" in known and a["kl"] < NEARER * b["kl"]:
        yield (
            f"Known reason: at this update size its policy moved less from its SFT model (KL {a['kl']:.2f} against {b['kl']:.2f} nats)."
        )
