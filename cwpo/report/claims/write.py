"""Writes claims.json for programs and claims.md for readers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.claims.claim import Claim
from cwpo.report.claims.ledger import Entry
from cwpo.report.claims.outcome import Outcome
from cwpo.report.claims.rule import CONFIDENCE, RULE, VERDICTS, Judged
from cwpo.report.inputs import commits
from cwpo.report.names import capital, scale_note, the_point

MISSING = "–"
DIGITS = 4  # decimals of the numbers in claims.json
READING = (
    "Verdicts stand side by side at two operating points: the matched update size, which the Human arm alone chose for all arms of a "
    "family, and each arm's own best. Effects of arms are in points of GRA; beside them stands the same comparison in mean gold "
    "reward, for GRA measures each arm against its own SFT model, and gold reward does not. Beside annotators' accuracy against human "
    "labels stands that against gold; annotators have no operating point. Prompts are test prompts over all runs, of annotators test "
    "pairs."
)
SIDES = (
    "Side a is what the claim puts first, b what it is compared with. M is the margin-weighted agreement of the labels with "
    "gold, 1 for perfect labels; KL is that of the aligned model to its SFT model, in nats per response."
)
SECOND = {"reward": (3, ""), "accuracy_gold": (1, " points of accuracy vs gold")}  # number -> its decimals and unit


def write_claims(entries: Sequence[Entry], folder: Path, scale: str) -> list[Path]:
    """Writes claims.json and claims.md into `folder`, results/<scale>; returns their paths."""
    data = {
        "scale": scale,
        "scale_note": scale_note(scale),
        "rule": RULE.replace("**", ""),
        "confidence": CONFIDENCE,
        "counts": counts(entries),
        "claims": [entry.record() for entry in entries],
    }
    paths = [folder / "claims.json", folder / "claims.md"]
    rounded = json.loads(json.dumps(data), parse_float=lambda text: round(float(text), DIGITS))
    paths[0].write_text(json.dumps(rounded, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    paths[1].write_text(_page(entries, scale), encoding="utf-8")
    return paths


def counts(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """Returns operating point -> verdict -> number of claims, with all verdicts, also those that no claim got."""
    verdicts = {
        point: Counter(entry.points[point].judged.verdict for entry in entries if point in entry.points)
        for point in dict.fromkeys(point for entry in entries for point in entry.points)
    }
    return {point: {verdict: of[verdict] for verdict in VERDICTS} for point, of in verdicts.items()}


def summary(entries: Sequence[Entry], scale: str) -> str:
    """Returns the numbers of claims per verdict as text, e.g. `62 claims at toy scale. At ...: 12 reproduced, ...`."""
    parts = [f"{len(entries)} claims at {scale} scale."]
    for point, of in counts(entries).items():
        shown = ", ".join(f"{count} {verdict}" for verdict, count in of.items())
        parts.append(f"{capital(the_point(point))}: {shown}.")
    return " ".join(parts)


def limits(entries: Sequence[Entry], scale: str) -> str:
    """Returns the text on how far the verdicts can be trusted at this scale."""
    ran = sum(entry.ran for entry in entries)
    many = (
        f"{ran} of {len(entries)} claims were tested, each at 95 %: a few verdicts of every hundred go wrong by chance, and claims "
        "that share runs go wrong together."
    )
    if scale != "toy":
        return many
    return (
        "Every verdict is at toy scale: evidence about the mechanism in a synthetic world with an exact gold reward, not about "
        f"models of 13 billion parameters. {many}"
    )


def paper_effect(entry: Entry) -> str:
    """Formats the paper's effect with its unit; a dash if it is unknown."""
    value = entry.first.paper
    return MISSING if value is None else f"{_form(entry.claim)(value)} {entry.claim.unit}"


def cells(outcome: Outcome) -> dict[str, str]:
    """Returns a claim's table row, heading -> text: verdict, effect, second effect, numbers of seeds, runs, prompts."""
    claim, judged = outcome.claim, outcome.judged
    ran = judged.effect is not None
    sizes = f"{len(outcome.measured.by_seed)} seeds, {outcome.runs} runs, {outcome.prompts:,} prompts"
    return {
        "verdict": outcome.shown,
        "effect": f"{_with_interval(judged, _form(claim))} {claim.unit}" if ran else MISSING,
        "beside it": _second(outcome),
        "sizes": sizes if ran else MISSING,
    }


def _form(claim: Claim) -> Callable[[float], str]:
    """Returns the formatter for effects of a claim: with a sign if the claim compares them with 0, else without."""
    return _beside(claim.value, 3 if claim.unit == "total variation" else 1)


def _beside(value: float, digits: int) -> Callable[[float], str]:
    """Returns a formatter with `digits` decimals, and up to 2 more for numbers that would round to exactly `value`."""
    sign = "+" if value == 0 else ""

    def written(number: float) -> str:
        enough = next((n for n in range(digits, digits + 3) if round(number, n) != value), digits)
        return f"{round(number, enough) + 0.0:{sign}.{enough}f}"  # + 0.0: never -0.0

    return written


def _with_interval(judged: Judged, form: Callable[[float], str]) -> str:
    """Returns the effect and its interval, as in `+4.2 [+1.0, +7.4]`, or the effect alone if it has no interval."""
    effect, *ends = (form(value) for value in judged[1:] if value is not None)
    return f"{effect} [{', '.join(ends)}]" if ends else effect


def _second(outcome: Outcome) -> str:
    """Formats the second effect, of mean gold reward or of accuracy against gold, with its interval; else a dash."""
    if outcome.second is None or outcome.second.effect is None:
        return MISSING
    digits, unit = SECOND[str(outcome.claim.second)]
    return _with_interval(outcome.second, _beside(0, digits)) + unit


def details(entry: Entry) -> list[str]:
    """Returns lines of text: the test in words, then for each operating point the notes and the arms' diagnostics."""
    claim = entry.claim
    side = "below" if claim.below else "above"
    lines = [f"Test: {claim.test}; claimed {side} {claim.value:g}, margin {entry.first.margin:.2g} {claim.unit}."]
    for point, outcome in entry.points.items():
        sides = [_diagnosis(values, name) for name, values in outcome.diagnostics.items() if values]
        notes = " ".join([*outcome.notes, *sides])
        lines += [f"{capital(point.replace('_', ' '))}: {notes}" if len(entry.points) > 1 else notes] * bool(notes)
    return lines


def _diagnosis(values: dict[str, float], side: str) -> str:
    words = {
        "reward": "mean gold reward {:.2f}",
        "reward_sft": "of its SFT model {:.2f}",
        "margin_agreement": "margin agreement M {:.2f}",
        "kl": "KL {:.2f}",
        "mean_length": "{:.1f} tokens",
        "truncated_share": "{:.0f} % unfinished",
    }
    shown = {name: 100 * value if name == "truncated_share" else value for name, value in values.items()}
    return f"Side {side}: " + ", ".join(words[name].format(value) for name, value in shown.items()) + "."


def _page(entries: Sequence[Entry], scale: str) -> str:
    points = list(counts(entries))
    header = ["id", "claim", "where", "paper"]
    for point in points:
        name = f"{point.replace('_', ' ')}: " if len(points) > 1 else ""
        header += [f"{name}{column}" for column in ("verdict", "effect", "beside it", "sizes")]
    lines = []
    for entry in entries:
        line = [entry.claim.id, entry.claim.statement, entry.claim.where, paper_effect(entry)]
        for point in points:
            line += list(cells(entry.points[point]).values()) if point in entry.points else [MISSING] * 4
        lines.append(line)
    notes = [f"**{entry.claim.id}**. " + " ".join(details(entry)) for entry in entries if entry.ran]
    used = pd.concat(
        [outcome.measured.used[["run_key", "git_commit"]] for entry in entries for outcome in entry.points.values()]
    )
    command = "make report" if scale == "toy" else f"make report SCALE={scale}"
    made = f"Made by `{command}` from {used['run_key'].nunique()} runs"
    return "\n\n".join(
        [
            "# The paper's claims",
            f"{summary(entries, scale)} {limits(entries, scale)}",
            RULE,
            READING,
            markdown_table(header, lines, left=3),
            "## Notes",
            SIDES,
            *(notes or ["Nothing was run."]),
            f"{made}; numbers in [claims.json](claims.json); commit {commits(used['git_commit'])}.\n",
        ]
    )
