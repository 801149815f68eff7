"""One claim tested against the evidence: effect, interval, verdict, and diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.claims.claim import Claim
from cwpo.report.claims.evidence import Evidence
from cwpo.report.claims.explain import diagnostics, reasons
from cwpo.report.claims.measures import Measured
from cwpo.report.claims.rule import (
    CONFIDENCE,
    NOT_RUN,
    OPPOSITE,
    REPRODUCED,
    Judged,
    judge,
)

DIGITS = 4


@dataclass(frozen=True)
class Outcome:
    """The result of testing a claim. `second` is the same comparison in the claim's second number, if it has one."""

    claim: Claim
    scale: str
    judged: Judged
    margin: float
    paper: float | None
    paper_cells: int
    measured: Measured
    second: Judged | None
    diagnostics: dict[str, dict[str, float]]
    notes: tuple[str, ...]

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

    def record(self) -> dict[str, Any]:
        """The claim as claims.json has it: plain values, None where there is none."""
        claim, by_seed = self.claim, self.measured.by_seed
        return {
            "id": claim.id,
            "where": claim.where,
            "statement": claim.statement,
            "test": claim.test,
            "unit": claim.unit,
            "claimed": f"{'below' if claim.below else 'above'} {claim.value:g}",
            "paper_effect": _plain(self.paper),
            "verdict": self.judged.verdict,
            "verdict_shown": self.shown,
            "scale": self.scale,
            "effect": _plain(self.judged.effect),
            "low": _plain(self.judged.low),
            "high": _plain(self.judged.high),
            "confidence": CONFIDENCE,
            "margin": _plain(self.margin),
            "seeds": [int(seed) for seed in by_seed.index],
            "by_seed": [_plain(value) for value in by_seed],
            "cells": {_name(cell): _plain(value) for cell, value in self.measured.by_cell.items()},
            "paper_cells": self.paper_cells,
            "runs": self.runs,
            "prompts": self.prompts,
            "second": None
            if self.second is None
            else {
                "number": claim.second,
                "effect": _plain(self.second.effect),
                "low": _plain(self.second.low),
                "high": _plain(self.second.high),
            },
            "diagnostics": {
                side: {name: _plain(value) for name, value in values.items()}
                for side, values in self.diagnostics.items()
            },
            "notes": list(self.notes),
        }


def assess(claim: Claim, ours: Evidence, theirs: Evidence, scale: str) -> Outcome:
    """Test one claim on our evidence; the paper's numbers set the margin: half the paper's effect, at least the claim's floor."""
    measured = claim.measure(ours, claim.number)
    published = (claim.paper or claim.measure)(theirs, claim.number)
    paper = float(published.by_seed.iloc[0]) if len(published.effects) else None
    distance = 0.0 if paper is None else (claim.value - paper if claim.below else paper - claim.value)
    margin = max(distance / 2, claim.floor)
    judged = judge(measured.by_seed.tolist(), margin=margin, value=claim.value, below=claim.below)
    second = None
    if claim.second is not None:
        other = (claim.second_measure or claim.measure)(ours, claim.second)
        second = judge(other.by_seed.tolist(), margin=margin, value=claim.value, below=claim.below)
    sides = diagnostics(measured) if claim.arms else {}
    return Outcome(
        claim,
        scale,
        judged,
        margin,
        paper,
        len(published.effects),
        measured,
        second,
        sides,
        (*_remarks(claim, judged, margin, paper, measured, second, len(published.effects)),)
        + (reasons(sides, measured) if claim.plain and judged.verdict == OPPOSITE else ()),
    )


def _remarks(
    claim: Claim,
    judged: Judged,
    margin: float,
    paper: float | None,
    measured: Measured,
    second: Judged | None,
    paper_cells: int,
) -> list[str]:
    if judged.verdict == NOT_RUN:
        return []
    notes = [claim.remark] if claim.remark else []
    if judged.verdict == OPPOSITE:
        notes.insert(0, "The results say the opposite of the paper.")
    if len(measured.by_seed) < 2:
        notes.append("One seed has no interval: nothing can be concluded from it.")
    if paper is not None and _smaller(claim, judged, margin):
        notes.append(
            "The direction is reproduced, the size is not: the interval excludes half the paper's effect."
        )
    notes += _where_it_differs(claim, measured)
    if claim.arms and second is not None and second.effect is not None and judged.effect is not None:
        target = 0.0 if claim.second_measure else claim.value
        if np.sign(judged.effect - claim.value) * np.sign(second.effect - target) < 0:
            notes.append(
                f"Mean gold reward has the other sign: {second.effect:+.3f}"
                + ("." if second.low is None else f" [{second.low:.3f}, {second.high:.3f}].")
            )
    cells = len(measured.effects)
    if cells < paper_cells:
        notes.append(f"{cells} of the paper's {paper_cells} cells were run.")
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
    return [
        "Not the same for all models: "
        + ", ".join(f"{n} {v + claim.value:+.2f}" for n, v in groups.items())
        + "."
    ]


def _plain(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), DIGITS)


def _name(cell: object) -> str:
    return ", ".join(
        f"{part:g}" if isinstance(part, float) else str(part)
        for part in (cell if isinstance(cell, tuple) else (cell,))
    )
