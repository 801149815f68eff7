"""Claims on the weak annotator: Tables 6, 12 and 13, Figures 7 and 8."""

from __future__ import annotations

from typing import Any

from cwpo.report.claims.claim import Claim
from cwpo.report.claims.measures import ANNOTATOR, Measure, Term, Where, confidence_distance, contrast, saving

RULES = {
    "likelihood": ("compared by likelihood", ""),
    "implicit": (
        "compared by implicit reward",
        "The paper's number is for likelihoods; annotators trained by DPO are stronger under their implicit reward.",
    ),
}
SECONDS = "Seconds are of the machine that ran it, while it did other things as well."
BT = {"experiment": "table6", "annotator": "bt"}


def _by_dpo(name: str, scoring: str) -> Where:
    return {"experiment": "table6", "annotator": name, "scoring": scoring}


def _difference(a: Where, b: Where) -> Measure:
    return contrast([Term(1, "a", a), Term(-1, "b", b)], match=ANNOTATOR, table="annotators")


def _accuracy(id: str, where: str, statement: str, test: str, measure: Measure, **more: Any) -> Claim:
    given: dict[str, Any] = {"number": "accuracy", "second": "accuracy_gold", "arms": False, **more}
    return Claim(id, where, statement, f"accuracy against human labels: {test}", measure, **given)


def _table6() -> list[Claim]:
    claims = []
    for scoring, (words, remark) in RULES.items():
        for a, b, short in (
            (BT, _by_dpo("sft_dpo", scoring), "bt_over_sft_dpo"),
            (_by_dpo("sft_dpo", scoring), _by_dpo("dpo", scoring), "sft_dpo_over_dpo"),
        ):
            first, second = ("BT", "SFT+DPO") if short.startswith("bt") else ("SFT+DPO", "DPO")
            paper = dict(a, scoring="likelihood") if a is not BT else BT
            claims.append(
                _accuracy(
                    f"table6_{short}_{scoring}",
                    "Table 6",
                    f"Annotators trained by {first} label better than those trained by {second} ({second} {words}).",
                    f"{first} − {second}",
                    _difference(a, b),
                    paper=_difference(paper, dict(b, scoring="likelihood")),
                    remark=remark,
                )
            )
    return claims


def _at(experiment: str, factor: float, **where: object) -> Term:
    side = "a" if factor > 0 else "b"
    return Term(factor, side, {"experiment": experiment, "annotator": "bt", **where})


def _sum(*terms: Term, match: tuple[str, ...] = ANNOTATOR) -> Measure:
    return contrast(terms, match=match, table="annotators")


def _cheaper(id: str, statement: str, rivals: str, *names: str) -> Claim:
    """Bradley-Terry trains in fewer seconds than the cheapest of the annotators `names`; `rivals` says it in words."""
    return Claim(
        id,
        "Table 6",
        statement,
        f"training seconds of BT below {rivals}",
        saving(BT, [_by_dpo(name, "likelihood") for name in names]),
        number="train_seconds",
        unit="%",
        floor=5,
        second=None,
        arms=False,
        remark=SECONDS,
    )


GROWTH = _sum(_at("table12", 1, rank=3), _at("table12", -1, rank=0), match=("data", "family"))

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
    _accuracy(
        "table12_grows", "Table 12", "A larger weak model labels better.", "largest weak model − smallest", GROWTH
    ),
    _accuracy(
        "table12_little",
        "Table 12",
        "A larger weak model labels only a little better: by less than 5 points over the four sizes.",
        "largest weak model − smallest",
        GROWTH,
        value=5,
        below=True,
        remark="The bound is ours; the paper's largest is 14 times its smallest.",
    ),
    _accuracy(
        "table13_rises",
        "Table 13",
        "More labelled pairs make a better annotator, up to 30 %.",
        "30 % labelled − 10 % labelled",
        _sum(_at("table13", 1, human_fraction=0.3), _at("table13", -1, human_fraction=0.1)),
    ),
    _accuracy(
        "table13_flattens",
        "Table 13",
        "From 30 to 50 % labelled pairs the annotator gains less than from 10 to 30 %.",
        "(30 % − 10 %) − (50 % − 30 %)",
        _sum(
            _at("table13", 2, human_fraction=0.3),
            _at("table13", -1, human_fraction=0.1),
            _at("table13", -1, human_fraction=0.5),
        ),
    ),
    Claim(
        "figure7_confidence_differs",
        "Figure 7",
        "The distribution of confidence differs from data set to data set.",
        "distance of confidence histograms between data sets less that between seeds of one data set",
        confidence_distance,
        number="pairs",
        unit="total variation",
        floor=0.05,
        second=None,
        arms=False,
        remark="The paper shows curves only; the margin is ours.",
    ),
    _accuracy(
        "figure8_poison_misleads",
        "Figure 8",
        "Poisoned labels make the annotator disagree more with clean human labels.",
        "no poison − 20 % poison",
        _sum(_at("figure8", 1, poison_fraction=0), _at("figure8", -1, poison_fraction=0.2)),
        remark="The paper shows curves only; the margin is ours.",
    ),
)
