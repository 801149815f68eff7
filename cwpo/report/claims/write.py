"""claims.json for programs and claims.md for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.claims.claim import Claim
from cwpo.report.claims.outcome import Outcome
from cwpo.report.claims.rule import CONFIDENCE, RULE, VERDICTS, Judged
from cwpo.report.inputs import commits
from cwpo.report.names import scale_note

MISSING = "–"
COLUMNS = ("claim", "where", "verdict", "effect", "paper", "seeds", "runs", "prompts", "beside it")
READING = (
    "Effects of arms are in points of GRA; beside them stands the same comparison in mean gold reward, for GRA measures each arm "
    "against its own SFT model, and gold reward does not. Beside annotators' accuracy against human labels stands that against "
    "gold. Prompts are test prompts over all runs, of annotators test pairs."
)
SIDES = (
    "Side a is what the claim puts first, b what it is compared with. M is the margin-weighted agreement of the labels with "
    "gold, 1 for perfect labels."
)
SECOND_DIGITS = {"reward": 3, "accuracy_gold": 1}


def write_claims(outcomes: Sequence[Outcome], folder: Path, scale: str) -> list[Path]:
    """Write claims.json and claims.md into results/<scale>."""
    data = {
        "scale": scale,
        "scale_note": scale_note(scale),
        "rule": RULE.replace("**", ""),
        "confidence": CONFIDENCE,
        "counts": counts(outcomes),
        "claims": [outcome.record() for outcome in outcomes],
    }
    paths = [folder / "claims.json", folder / "claims.md"]
    paths[0].write_text(
        json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    paths[1].write_text(_page(outcomes, scale), encoding="utf-8")
    return paths


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many claims got each verdict, all verdicts named."""
    verdicts = Counter(outcome.judged.verdict for outcome in outcomes)
    return {verdict: verdicts[verdict] for verdict in VERDICTS}


def summary(outcomes: Sequence[Outcome], scale: str) -> str:
    """`Of 46 claims, at toy scale: 12 reproduced, ...`."""
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts(outcomes).items())
    return f"Of {len(outcomes)} claims, at {scale} scale: {parts}."


def limits(outcomes: Sequence[Outcome], scale: str) -> str:
    """How far the verdicts can be trusted at this scale."""
    ran = sum(outcome.judged.effect is not None for outcome in outcomes)
    many = (
        f"{ran} of {len(outcomes)} claims were tested, each at 95 %: a few verdicts of every hundred go wrong by chance, and claims "
        "that share runs go wrong together."
    )
    if scale != "toy":
        return many
    return (
        "Every verdict is at toy scale: evidence about the mechanism in a synthetic world with an exact gold reward, not about "
        f"models of 13 billion parameters. {many}"
    )


def cells(outcome: Outcome) -> dict[str, str]:
    """The cells of one claim, by COLUMNS."""
    claim, judged, form = outcome.claim, outcome.judged, _form(outcome.claim)
    counted = [str(len(outcome.measured.by_seed)), str(outcome.runs), f"{outcome.prompts:,}"]
    ran = judged.effect is not None
    values = [
        claim.statement,
        claim.where,
        outcome.shown,
        f"{_with_interval(judged, form)} {claim.unit}" if ran else MISSING,
        MISSING if outcome.paper is None else f"{form(outcome.paper)} {claim.unit}",
        *(counted if ran else [MISSING] * len(counted)),
        _second(outcome),
    ]
    return dict(zip(COLUMNS, values, strict=True))


def _form(claim: Claim) -> Callable[[float], str]:
    """How effects of a claim are written: with a sign, except where 0 is not the value that the claim compares with."""
    digits = 3 if claim.unit == "total variation" else 1
    return _signed(digits) if claim.value == 0 else f"{{:.{digits}f}}".format


def _signed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: never -0.0


def _with_interval(judged: Judged, form: Callable[[float], str]) -> str:
    """`+4.2 [+1.0, +7.4]`, or the effect alone where it has no interval."""
    effect, *ends = (form(value) for value in judged[1:] if value is not None)
    return f"{effect} [{', '.join(ends)}]" if ends else effect


def _second(outcome: Outcome) -> str:
    """The same comparison in mean gold reward, or for annotators in accuracy against gold."""
    judged, name = outcome.second, outcome.claim.second
    if judged is None or judged.effect is None or name is None:
        return MISSING
    unit = "" if name == "reward" else " points of accuracy vs gold"
    return _with_interval(judged, _signed(SECOND_DIGITS[name])) + unit


def details(outcome: Outcome) -> list[str]:
    """The notes, the test in words and the arms' diagnostics, each a sentence or two."""
    claim = outcome.claim
    side = "below" if claim.below else "above"
    test = f"Test: {claim.test}; claimed {side} {claim.value:g}, margin {outcome.margin:.2g} {claim.unit}."
    sides = [_diagnosis(values, name) for name, values in outcome.diagnostics.items() if values]
    return [*outcome.notes, test, *sides]


def _diagnosis(values: dict[str, float], side: str) -> str:
    words = {
        "reward": "mean gold reward {:.2f}",
        "reward_sft": "of its SFT model {:.2f}",
        "margin_agreement": "margin agreement M {:.2f}",
        "mean_length": "{:.1f} tokens",
        "truncated_share": "{:.0f} % unfinished",
    }
    shown = {name: 100 * value if name == "truncated_share" else value for name, value in values.items()}
    return f"Side {side}: " + ", ".join(words[name].format(value) for name, value in shown.items()) + "."


def _page(outcomes: Sequence[Outcome], scale: str) -> str:
    lines = [[outcome.claim.id, *cells(outcome).values()] for outcome in outcomes]
    notes = [
        f"**{outcome.claim.id}**, {outcome.shown}. " + " ".join(details(outcome))
        for outcome in outcomes
        if outcome.judged.effect is not None
    ]
    used = pd.concat([outcome.measured.used[["run_key", "git_commit"]] for outcome in outcomes])
    return "\n\n".join(
        [
            "# The paper's claims",
            f"{summary(outcomes, scale)} {limits(outcomes, scale)}",
            RULE,
            READING,
            markdown_table(["id", *COLUMNS], lines, left=4),
            "## Notes",
            SIDES,
            *(notes or ["Nothing was run."]),
            f"Made by `make report` from {used['run_key'].nunique()} runs; numbers in [claims.json](claims.json); commit {commits(used['git_commit'])}.\n",
        ]
    )
