"""The paper's claims, in our own words, in the order of its tables and figures; and their outcomes."""

from __future__ import annotations

from cwpo.report.claims.annotators import ANNOTATOR_CLAIMS
from cwpo.report.claims.arms import ARM_CLAIMS
from cwpo.report.claims.claim import Claim
from cwpo.report.claims.evidence import of_paper, of_results
from cwpo.report.claims.outcome import Outcome, assess
from cwpo.report.claims.robustness import ROBUSTNESS_CLAIMS
from cwpo.report.inputs import Results

CLAIMS: tuple[Claim, ...] = (*ARM_CLAIMS, *ANNOTATOR_CLAIMS, *ROBUSTNESS_CLAIMS)


def judge_all(results: Results) -> list[Outcome]:
    """Every claim of the ledger, in its order."""
    ours, theirs = of_results(results), of_paper(results.paper)
    return [assess(claim, ours, theirs, results.scale) for claim in CLAIMS]
