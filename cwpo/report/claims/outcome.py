"""Tests one claim against the evidence: effect, interval, verdict, notes, and diagnostics of the two sides compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.claims.claim import Claim
from cwpo.report.claims.evidence import Evidence
from cwpo.report.claims.measures import Measured
from cwpo.report.claims.rule import NOT_RUN, OPPOSITE, REPRODUCED, Judged, judge

NUMBERS = ("reward", "reward_sft", "margin_agreement", "kl", "mean_length", "truncated_share")
LONGER, MORE_UNFINISHED = 1.1, 0.05  # a tenth more tokens, or 5 points more unfinished responses
NEARER = 0.9  # a policy moved measurably less if its KL is below this share of the other side's


@dataclass(frozen=True)
class Outcome:
    """The result of testing a claim at one operating point.

    A claim is about one number, such as GRA, and may name a second one, such as the gold reward: `judged` has verdict,
    effect and interval for the first, `second` for the second, or None if the claim names none. `paper` is the effect
    in the paper, a mean over `paper_cells` cells; None if it is unknown.
    """

    claim: Claim
    scale: str
    judged: Judged
    margin: float
    paper: float | None
    paper_cells: int
    measured: Measured
    second: Judged | None

    @property
    def shown(self) -> str:
        """The verdict with its scale, as shown to readers, e.g. `reproduced (toy scale)`."""
        return f"{self.judged.verdict} ({self.scale} scale)"

    @property
    def runs(self) -> int:
        return int(self.measured.used["run_key"].nunique())

    @property
    def prompts(self) -> int:
        """The number of test prompts (for annotators: of test pairs), summed over all runs."""
        return int(self.measured.used.drop_duplicates("run_key")["n_eval"].sum())

    @cached_property
    def diagnostics(self) -> dict[str, dict[str, float]]:
        """Maps side ("a", "b") -> number -> mean over the side's runs, for each of NUMBERS; {} for annotators.

        These are the gold rewards of aligned and SFT model, the labels' margin_agreement with gold, KL in nats,
        response length in tokens and the share of unfinished responses. Numbers that no run of the side has are left out.
        """
        if not self.claim.of_arms:
            return {}
        means = {
            str(side): {name: float(pd.to_numeric(runs[name]).mean()) for name in NUMBERS}
            for side, runs in self.measured.used.drop_duplicates(["side", "run_key"]).groupby("side")
        }
        return {side: {name: mean for name, mean in of.items() if pd.notna(mean)} for side, of in means.items()}

    @cached_property
    def notes(self) -> list[str]:
        """Remarks that a reader of the verdict needs, a sentence or two each."""
        return _remarks(self)

    def record(self) -> dict[str, Any]:
        """Returns the outcome as it stands in claims.json, where floats are rounded."""
        by_seed, second = self.measured.by_seed, self.second
        return {
            "verdict": self.judged.verdict,
            "verdict_shown": self.shown,
            **_effect(self.judged),
            "seeds": [int(seed) for seed in by_seed.index],
            "by_seed": list(by_seed),
            "cells": {_name(cell): value for cell, value in self.measured.by_cell.items()},
            "runs": self.runs,
            "prompts": self.prompts,
            "second": None if second is None else {"number": self.claim.second, **_effect(second)},
            "diagnostics": self.diagnostics,
            "notes": self.notes,
        }


def _effect(judged: Judged) -> dict[str, float | None]:
    return {"effect": judged.effect, "low": judged.low, "high": judged.high}


def assess(claim: Claim, ours: Evidence, theirs: Evidence, scale: str) -> Outcome:
    """Tests a claim on `ours`. The margin is half the effect in the paper's numbers `theirs`, at least claim.floor."""
    frame = getattr(ours, claim.table)
    measured = claim.measure(frame, claim.number)
    published = (claim.paper or claim.measure)(getattr(theirs, claim.table), claim.number)
    paper = float(published.by_seed.iloc[0]) if len(published.effects) else None
    margin = claim.floor if paper is None else max(claim.distance(paper) / 2, claim.floor)

    def judged(values: Measured) -> Judged:
        return judge(values.by_seed.tolist(), margin=margin, value=claim.value, below=claim.below)

    second = None
    if claim.second is not None:
        second = judged((claim.second_measure or claim.measure)(frame, claim.second))
    return Outcome(claim, scale, judged(measured), margin, paper, len(published.effects), measured, second)


def _remarks(outcome: Outcome) -> list[str]:
    claim, judged, measured, second = outcome.claim, outcome.judged, outcome.measured, outcome.second
    if judged.verdict == NOT_RUN:
        return list(measured.notes)
    notes = [claim.remark] if claim.remark else []
    if judged.verdict == OPPOSITE:
        why = [*_reasons(**outcome.diagnostics)][:1] if claim.plain else []
        notes = ["The results say the opposite of the paper.", *why, *notes]
    if len(measured.by_seed) < 2:
        notes.append("One seed has no interval: nothing can be concluded from it.")
    if outcome.paper is not None and _smaller(claim, judged, outcome.paper):
        notes.append("The direction is reproduced, the size is not: the interval excludes half the paper's effect.")
    notes += _where_it_differs(claim, measured)
    if claim.of_arms and second is not None and second.effect is not None and judged.effect is not None:
        target = 0.0 if claim.second_measure else claim.value
        if np.sign(judged.effect - claim.value) * np.sign(second.effect - target) < 0:
            ends = "" if second.low is None else f" [{second.low:.3f}, {second.high:.3f}]"
            notes.append(f"Mean gold reward has the other sign: {second.effect:+.3f}{ends}.")
    cells = len(measured.effects)
    if cells < outcome.paper_cells:
        notes.append(f"{cells} of the paper's {outcome.paper_cells} cells were run.")
    return [*notes, *measured.notes]


def _smaller(claim: Claim, judged: Judged, paper: float) -> bool:
    """Whether the claim is reproduced, but even the far end of its interval is below half the paper's effect.

    Here effects are measured from claim.value, in the claimed direction.
    """
    if judged.verdict != REPRODUCED or judged.low is None or judged.high is None:
        return False
    return claim.distance(judged.low if claim.below else judged.high) < claim.distance(paper) / 2


def _where_it_differs(claim: Claim, measured: Measured) -> list[str]:
    """Returns [a sentence] if the mean effect is above the claim's value for some models, below for others; else []."""
    cells = measured.by_cell
    names = [name for name in ("strong", "family", "weak") if name in cells.index.names]
    if not names:
        return []
    groups = (cells - claim.value).groupby(level=names[0], sort=True).mean()
    if len(groups) < 2 or not (groups.min() < 0 < groups.max()):
        return []
    means = ", ".join(f"{name} {mean + claim.value:+.2f}" for name, mean in groups.items())
    return [f"Not the same for all models: {means}."]


def _name(cell: Any) -> str:
    return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in cell)


def _reasons(a: dict[str, float], b: dict[str, float]) -> Iterator[str]:
    """Yields a sentence for each known reason that the data show why side `a` is behind side `b`, the main one first.

    A reason is a difference that accompanies the result but need not be its cause. They are in this order: the SFT
    models that GRA compares with, the labels, the responses' length, how far the policy moved.
    """
    known = set(a) & set(b)
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
