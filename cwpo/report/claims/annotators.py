"""Claims about the weak annotator: Tables 6, 12 and 13, Figures 7 and 8."""

from __future__ import annotations

import itertools
from typing import Any

from cwpo.report.claims.claim import Claim
from cwpo.report.claims.measures import ANNOTATOR, Measure, Where, confidence_distance, contrast, saving

RULES = {
    "likelihood": ("compared by likelihood", ""),
    "implicit": (
        "compared by implicit reward",
        "The paper's number is for likelihoods; annotators trained by DPO are stronger under their implicit reward.",
    ),
}
SECONDS = "Seconds are of the machine that ran it, while it did other things as well."
NAMES = {"bt": "BT", "sft_dpo": "SFT+DPO", "dpo": "DPO"}


def _of_table6(name: str, scoring: str) -> Where:
    return {"experiment": "table6", "annotator": name} | ({} if name == "bt" else {"scoring": scoring})


def _accuracy(id: str, statement: str, test: str, measure: Measure, **more: Any) -> Claim:
    given: dict[str, Any] = {"number": "accuracy", "second": "accuracy_gold", "table": "annotators", **more}
    return Claim(id, statement, f"accuracy against human labels: {test}", measure, **given)


def _table6() -> list[Claim]:
    claims = []
    for (scoring, (words, remark)), (a, b) in itertools.product(RULES.items(), (("bt", "sft_dpo"), ("sft_dpo", "dpo"))):
        ours, paper = (
            contrast([(1, _of_table6(a, rule))], [(1, _of_table6(b, rule))], match=ANNOTATOR)
            for rule in (scoring, "likelihood")
        )
        statement = (
            f"Annotators trained by {NAMES[a]} label better than those trained by {NAMES[b]} ({NAMES[b]} {words})."
        )
        test = f"{NAMES[a]} − {NAMES[b]}"
        claims.append(_accuracy(f"table6_{a}_over_{b}_{scoring}", statement, test, ours, paper=paper, remark=remark))
    return claims


def _bt(experiment: str, **where: object) -> Where:
    return {"experiment": experiment, "annotator": "bt", **where}


def _cheaper(id: str, statement: str, rivals: str, *names: str) -> Claim:
    """Returns the claim that Bradley–Terry (BT) annotators train in fewer seconds than the annotators `names`, such as
    "sft_dpo". `rivals` completes the description "training seconds of BT below ...", e.g. "those of SFT+DPO"."""
    return Claim(
        id,
        statement,
        f"training seconds of BT below {rivals}",
        saving(_of_table6("bt", ""), [_of_table6(name, "likelihood") for name in names], match=ANNOTATOR),
        number="train_seconds",
        unit="%",
        floor=5,
        second=None,
        table="annotators",
        remark=SECONDS,
    )


GROWTH = contrast([(1, _bt("table12", rank=3))], [(1, _bt("table12", rank=0))], match=("data", "family"))
LABELED_10, LABELED_30, LABELED_50 = (_bt("table13", human_fraction=share) for share in (0.1, 0.3, 0.5))

ANNOTATOR_CLAIMS = (
    *_table6(),
    _cheaper(
        "table6_bt_cheapest",
        "Bradley–Terry is the cheapest of the three ways to train an annotator.",
        "the cheaper of DPO and SFT+DPO",
        "dpo",
        "sft_dpo",
    ),
    _cheaper(
        "table6_bt_cheaper_than_ws_dpo",
        "The annotator of CW-PO costs less training than that of WS-DPO, which is trained by SFT + DPO.",
        "those of SFT+DPO",
        "sft_dpo",
    ),
    _accuracy("table12_grows", "A larger weak model labels better.", "largest weak model − smallest", GROWTH),
    _accuracy(
        "table12_little",
        "A larger weak model labels only a little better: by less than 5 points over the four sizes.",
        "largest weak model − smallest",
        GROWTH,
        value=5,
        below=True,
        remark="The bound is ours; the paper's largest is 14 times its smallest.",
    ),
    _accuracy(
        "table13_rises",
        "More labelled pairs make a better annotator, up to 30 %.",
        "30 % labelled − 10 % labelled",
        contrast([(1, LABELED_30)], [(1, LABELED_10)], match=ANNOTATOR),
    ),
    _accuracy(
        "table13_flattens",
        "From 30 to 50 % labelled pairs the annotator gains less than from 10 to 30 %.",
        "(30 % − 10 %) − (50 % − 30 %)",
        contrast([(2, LABELED_30)], [(1, LABELED_10), (1, LABELED_50)], match=ANNOTATOR),
    ),
    Claim(
        "figure7_confidence_differs",
        "The distribution of confidence differs from data set to data set.",
        "distance of confidence histograms between data sets less that between seeds of one data set",
        confidence_distance,
        number="pairs",
        unit="total variation",
        floor=0.05,
        second=None,
        table="confidences",
        remark="The paper shows curves only; the margin is ours.",
    ),
    _accuracy(
        "figure8_poison_misleads",
        "Poisoned labels make the annotator disagree more with clean human labels.",
        "no poison − 20 % poison",
        contrast([(1, _bt("figure8", poison_fraction=0))], [(1, _bt("figure8", poison_fraction=0.2))], match=ANNOTATOR),
        remark="The paper shows curves only; the margin is ours.",
    ),
)
