"""The paper's claims, in our own words, in the order of its tables and figures."""

from __future__ import annotations

from cwpo.report.claims.annotators import ANNOTATOR_CLAIMS
from cwpo.report.claims.arms import ARM_CLAIMS
from cwpo.report.claims.claim import Claim
from cwpo.report.claims.robustness import ROBUSTNESS_CLAIMS

CLAIMS: tuple[Claim, ...] = (*ARM_CLAIMS, *ANNOTATOR_CLAIMS, *ROBUSTNESS_CLAIMS)
