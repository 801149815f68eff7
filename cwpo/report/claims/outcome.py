"""One claim tested against the evidence: effect, interval, verdict, and diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cwpo.report.claims.claim import Claim
from cwpo.report.claims.evidence import Evidence
from cwpo.report.claims.explain import diagnostics, reason
from cwpo.report.claims.measures import Measured
from cwpo.report.claims.rule import NOT_RUN, OPPOSITE, REPRODUCED, Judged, judge

DIGITS = 4


@dataclass(frozen=True)
class Outcome:
    """The result of testing a claim at one operating point. `second` is the same comparison in the claim's second number, if it has one.

    `paper` is the paper's effect, the mean over `paper_cells` cells.
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
        """The verdict as people read it, never without its scale."""
        return f"{self.judged.verdict} ({self.scale} scale)"

    @property
    def runs(self) -> int:
        return int(self.measured.used["run_key"].nunique())

    @property
    def prompts(self) -> int:
        """Test prompts (annotators: test pairs) over all runs."""
        return int(self.measured.used.drop_duplicates("run_key")["n_eval"].sum())

    @cached_property
    def diagnostics(self) -> dict[str, dict[str, float]]:
        return diagnostics(self.measured) if self.claim.arms else {}

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the verdict, a sentence or two each."""
        return tuple(filter(None, _remarks(self)))

    def record(self) -> dict[str, Any]:
        """The outcome as claims.json has it: plain values, rounded; None where there is none."""
        by_seed, second = self.measured.by_seed, self.second
        return plain(
            {
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
                "notes": list(self.notes),
            }
        )


def _effect(judged: Judged) -> dict[str, float | None]:
    return {"effect": judged.effect, "low": judged.low, "high": judged.high}


def assess(claim: Claim, ours: Evidence, theirs: Evidence, scale: str) -> Outcome:
    """Test one claim on our evidence; the paper's numbers set the margin: half the paper's effect, at least the claim's floor."""
    measured = claim.measure(ours, claim.number)
    published = (claim.paper or claim.measure)(theirs, claim.number)
    paper = float(published.by_seed.iloc[0]) if len(published.effects) else None
    distance = 0.0 if paper is None else (claim.value - paper if claim.below else paper - claim.value)
    margin = max(distance / 2, claim.floor)

    def judged(values: Measured) -> Judged:
        return judge(values.by_seed.tolist(), margin=margin, value=claim.value, below=claim.below)

    second = None
    if claim.second is not None:
        second = judged((claim.second_measure or claim.measure)(ours, claim.second))
    return Outcome(claim, scale, judged(measured), margin, paper, len(published.effects), measured, second)


def _remarks(outcome: Outcome) -> list[str]:
    claim, judged, measured, second = outcome.claim, outcome.judged, outcome.measured, outcome.second
    if judged.verdict == NOT_RUN:
        return []
    notes = [claim.remark] if claim.remark else []
    if judged.verdict == OPPOSITE:
        why = reason(outcome.diagnostics) if claim.plain else ""
        notes = ["The results say the opposite of the paper.", why, *notes]
    if len(measured.by_seed) < 2:
        notes.append("One seed has no interval: nothing can be concluded from it.")
    if outcome.paper is not None and _smaller(claim, judged, outcome.margin):
        notes.append("The direction is reproduced, the size is not: the interval excludes half the paper's effect.")
    notes += _where_it_differs(claim, measured)
    if claim.arms and second is not None and second.effect is not None and judged.effect is not None:
        target = 0.0 if claim.second_measure else claim.value
        if np.sign(judged.effect - claim.value) * np.sign(second.effect - target) < 0:
            ends = "" if second.low is None else f" [{second.low:.3f}, {second.high:.3f}]"
            notes.append(f"Mean gold reward has the other sign: {second.effect:+.3f}{ends}.")
    cells = len(measured.effects)
    if cells < outcome.paper_cells:
        notes.append(f"{cells} of the paper's {outcome.paper_cells} cells were run.")
    return [*notes, *measured.notes]


def _smaller(claim: Claim, judged: Judged, margin: float) -> bool:
    """Whether a reproduced effect is smaller than the margin: its whole interval lies nearer to the value than that."""
    if judged.verdict != REPRODUCED or judged.low is None or judged.high is None:
        return False
    return (claim.value - judged.low if claim.below else judged.high - claim.value) < margin


def _where_it_differs(claim: Claim, measured: Measured) -> list[str]:
    """A sentence if the mean effect has one sign for some models and the other for others."""
    cells = measured.by_cell
    names = [name for name in ("strong", "family", "weak") if name in cells.index.names]
    if not names:
        return []
    groups = (cells - claim.value).groupby(level=names[0], sort=True).mean()
    if len(groups) < 2 or not (groups.min() < 0 < groups.max()):
        return []
    means = ", ".join(f"{name} {mean + claim.value:+.2f}" for name, mean in groups.items())
    return [f"Not the same for all models: {means}."]


def plain(value: Any) -> Any:
    """For JSON: floats rounded, NaN as None, also inside lists and dicts."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(float(value), DIGITS)
    return value


def _name(cell: object) -> str:
    parts = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
