"""The claims on the page: counts, and a table with a badge for each verdict."""

from __future__ import annotations

from collections.abc import Sequence

from cwpo.report.claims.outcome import Outcome
from cwpo.report.claims.verdict import OPPOSITE, RULE
from cwpo.report.claims.write import READING, SIDES, counts, details, row
from cwpo.report.html.parts import escape, table

COLUMNS = ("verdict and claim", "effect", "paper", "beside it", "seeds, runs, prompts")
KINDS = ("", "number", "number", "number", "number")


def section(outcomes: Sequence[Outcome]) -> str:
    """The claims' part of the page, without its heading."""
    rule = escape(RULE)
    for bold in ("reproduced", "opposite", "not reproduced", "inconclusive", "not run"):
        rule = rule.replace(f"**{bold}**", f"<strong>{bold}</strong>")
    return "\n".join(
        [
            _counts(outcomes),
            f"<p>{escape(READING)} {escape(SIDES)}</p>",
            f"<details><summary>How a verdict is reached</summary><p>{rule}</p></details>",
            table(
                COLUMNS, [_row(o) for o in outcomes], label="The paper's claims", kinds=KINDS, name="claims"
            ),
        ]
    )


def _counts(outcomes: Sequence[Outcome]) -> str:
    items = "".join(
        f"<li>{badge(verdict, f'{count} {verdict}')}</li>" for verdict, count in counts(outcomes).items()
    )
    return f'<ul class="counts">{items}</ul>'


def badge(verdict: str, text: str) -> str:
    """The verdict in words, on its colour."""
    return f'<span class="badge {verdict.replace(" ", "-")}">{escape(text)}</span>'


def _row(outcome: Outcome) -> list[str]:
    claim, judged = outcome.claim, outcome.judged
    statement, where, _, effect, paper, *counted, second = (escape(cell) for cell in row(outcome))
    more = ""
    if judged.effect is not None:
        lines = "".join(f"<p>{escape(line)}</p>" for line in details(outcome))
        shown = " open" if judged.verdict == OPPOSITE else ""
        more = f"<details{shown}><summary>test and notes</summary>{lines}</details>"
    first = (
        f'{badge(judged.verdict, outcome.shown)}<p id="claim-{escape(claim.id)}">{statement} '
        f'<span class="dim">{where}</span></p>{more}'
    )
    sizes = "–" if judged.effect is None else "<br>".join(counted)
    return [first, *(_lines(cell) for cell in (effect, paper, second)), sizes]


def _lines(cell: str) -> str:
    """A mean above its interval, which is not broken."""
    mean, bracket, rest = cell.partition(" [")
    return f"{mean}<br>[{rest.replace(', ', ',&nbsp;', 1)}" if bracket else mean
