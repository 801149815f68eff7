"""The paper's claims, in our own words, in the order of its tables and figures; and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cwpo.report.claims.annotators import ANNOTATOR_CLAIMS
from cwpo.report.claims.arms import ARM_CLAIMS
from cwpo.report.claims.claim import Claim
from cwpo.report.claims.evidence import of_paper, of_results
from cwpo.report.claims.outcome import Outcome, assess
from cwpo.report.claims.robustness import ROBUSTNESS_CLAIMS
from cwpo.report.claims.rule import CONFIDENCE
from cwpo.report.inputs import Results

CLAIMS: tuple[Claim, ...] = (*ARM_CLAIMS, *ANNOTATOR_CLAIMS, *ROBUSTNESS_CLAIMS)


@dataclass(frozen=True)
class Entry:
    """A claim and its outcome at each operating point. A claim about annotators has one outcome, under "matched"."""

    claim: Claim
    points: dict[str, Outcome]

    @property
    def first(self) -> Outcome:
        return next(iter(self.points.values()))

    @property
    def ran(self) -> bool:
        return any(outcome.judged.effect is not None for outcome in self.points.values())

    def record(self) -> dict[str, Any]:
        """Returns the claim with its outcomes as it stands in claims.json, where floats are rounded."""
        claim, first = self.claim, self.first
        return {
            "id": claim.id,
            "where": claim.where,
            "statement": claim.statement,
            "test": claim.test,
            "unit": claim.unit,
            "claimed": f"{'below' if claim.below else 'above'} {claim.value:g}",
            "scale": first.scale,
            "confidence": CONFIDENCE,
            "margin": first.margin,
            "paper_effect": first.paper,
            "paper_cells": first.paper_cells,
            "points": {point: outcome.record() for point, outcome in self.points.items()},
        }


def judge_all(results: Results) -> list[Entry]:
    """Returns an Entry per claim in CLAIMS, judged at each operating point; annotators' claims only at the first."""
    points, theirs = results.points(), of_paper(results.paper)
    ours = {point: of_results(results.at(point)) for point in points}
    return [
        Entry(
            claim,
            {
                point: assess(claim, ours[point], theirs, results.scale)
                for point in (points if claim.of_arms else points[:1])
            },
        )
        for claim in CLAIMS
    ]
