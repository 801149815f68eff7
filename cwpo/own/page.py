"""The annotator report as one HTML file with its figures inside, and the data-set card."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from cwpo.own.figures import coverage_figure, learning_figure, reliability_figures
from cwpo.plain import visible

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2rem}
.verdict{border-left:.4rem solid #0072B2;background:#f2f7fb;padding:.6rem 1rem}
.verdict strong{font-size:1.2rem}.verdict ul{padding-left:1.2rem;margin:.5rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse}
td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right;overflow-wrap:normal}
td:first-child,th:first-child{text-align:left}img{max-width:100%;height:auto}
.figures{display:flex;flex-wrap:wrap}.figures img{width:28rem}
@media(max-width:40rem){body{margin:1rem auto}td,th{padding:.2rem .4rem;font-size:.9rem}}
"""
ROWS_SHOWN = 10  # row numbers named for each reason


def document(title: str, body: str, style: str = "") -> str:
    """A page of its own; `body` is HTML already."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style><body>{body}</body></html>\n"
    )


def report_page(numbers: Mapping[str, Any]) -> str:
    """The whole page. Every text that comes from data is escaped."""
    parts = [
        f"<h1>How far to trust this annotator</h1><p>{escape(numbers['about'])}</p>",
        f"<div class=verdict><strong>{escape(numbers['verdict']['title'])}</strong><ul>"
        + "".join(f"<li>{escape(reason)}</li>" for reason in numbers["verdict"]["reasons"])
        + "</ul></div>",
        *_accuracy(numbers),
        *_calibration(numbers["calibration"]),
        *_labels_needed(numbers),
        *_bias(numbers["bias"]),
        *_domains(numbers["domains"]),
        *_votes(numbers["votes"]),
        *_members(numbers["members"]),
        *_shift(numbers.get("shift")),
        "<h2>Rows left out</h2>",
        _dropped(numbers["input"]),
    ]
    return document("Annotator report", "\n".join(parts))


def _accuracy(numbers: Mapping[str, Any]) -> list[str]:
    base = numbers["baselines"]
    rows = [
        ["the annotator", *_cells(numbers["accuracy"])],
        ["always the same side", *_cells(base["majority"])],
        ["the longer response", *_cells(base["longer"])],
    ]
    return [
        "<h2>Accuracy on held-out labelled pairs</h2>",
        table(["", "right", "95 % interval", "pairs"], rows),
        "<h2>Accuracy of the most confident pairs</h2>",
        coverage_figure(numbers),
    ]


def _calibration(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, f"{found[f'{key}_before']:.3f}", f"{found[f'{key}_after']:.3f}"]
        for name, key in (("expected calibration error", "ece"), ("log-loss, nats", "log_loss"))
    ]
    change = found["log_loss_change"]
    return [
        "<h2>Calibration</h2>",
        reliability_figures(found),
        table(["", "as it is", "temperature fitted on other pairs"], rows),
        f"<p>Temperature {found['temperature']:.2f}: above 1 the annotator is more confident than it should be. It changes the "
        f"log-loss of other pairs by {change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}] nats.</p>",
    ]


def _labels_needed(numbers: Mapping[str, Any]) -> list[str]:
    if len(numbers["learning_curve"]) < 2:
        return []
    parts = ["<h2>Would more labels help?</h2>", learning_figure(numbers["learning_curve"])]
    more = numbers["more_labels"]
    if more is not None:
        parts.append(
            f"<p>{more['extra']} more labels would change accuracy by about {100 * more['mean']:+.1f} points "
            f"[{100 * more['low']:+.1f}, {100 * more['high']:+.1f}] if it went on as the curve does.</p>"
        )
    return parts


def _bias(bias: Mapping[str, Any]) -> list[str]:
    sides = (("the longer response", "longer"), ("response a", "a"))
    rows = [
        [name, *_cells(bias[f"annotator_prefers_{side}"])[:2], *_cells(bias[f"people_prefer_{side}"])[:2]]
        for name, side in sides
        if bias[f"annotator_prefers_{side}"]
    ]
    head = ["prefers", "annotator", "95 % interval", "people", "95 % interval"]
    return ["<h2>Length and position</h2>", table(head, rows)]


def _domains(domains: Mapping[str, Any]) -> list[str]:
    rows = [[escape(name), *_cells(value)] for name, value in domains.items()]
    return ["<h2>Domains</h2>", table(["", "right", "95 % interval", "pairs"], rows)] if rows else []


def _votes(votes: Mapping[str, Any] | None) -> list[str]:
    if votes is None:
        return []
    rank = votes["rank_correlation"]
    return [
        "<h2>Agreement of people</h2>",
        f"<p>{votes['pairs']:,} held-out pairs have several votes; one vote agrees with their majority "
        f"{votes['one_vote_agrees_with_majority']:.1%} of the time. Confidence and agreement have a rank correlation of "
        f"{rank['mean']:.2f} [{rank['low']:.2f}, {rank['high']:.2f}].</p>",
    ]


def _members(members: Mapping[str, Any] | None) -> list[str]:
    if members is None:
        return []
    rows = [
        ["all members agree", *_cells(members["accuracy_agreed"])],
        ["some disagree", *_cells(members["accuracy_disagreed"])],
    ]
    return ["<h2>Members of the ensemble</h2>", table(["", "right", "95 % interval", "pairs"], rows)]


def _shift(shift: Mapping[str, Any] | None) -> list[str]:
    if shift is None:
        return []
    rows = [[escape(name), f"{d['distance']:.2f}", f"{d['p']:.2g}"] for name, d in shift["distances"].items()]
    return [
        "<h2>Are the pairs to be labelled like these?</h2>",
        table(["distribution of", "Kolmogorov-Smirnov distance", "p"], rows),
        f"<p>{shift['unseen_words']:.1%} of their different words do not occur in the labelled pairs.</p>",
    ]


def _dropped(given: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(reason.replace("_", " ")),
            f"{len(numbers):,}",
            escape(", ".join(map(str, numbers[:ROWS_SHOWN])) + (" …" if len(numbers) > ROWS_SHOWN else "")),
        ]
        for reason, numbers in given["dropped"].items()
    ]
    text = f"<p>{given['read']:,} rows read, {given['labeled']:,} of {given['kept']:,} usable pairs have a label.</p>"
    return text + (table(["reason", "rows", "row numbers"], rows) if rows else "")


def card(numbers: Mapping[str, Any]) -> str:
    """README.md of the weighted data set."""
    verdict = numbers["verdict"]
    lines = [
        "# Weighted preference pairs",
        "",
        numbers["about"],
        "",
        f"**{verdict['title']}.**",
        "",
        *[f"- {reason}" for reason in verdict["reasons"]],
        "",
        "| column | meaning |",
        "|---|---|",
        "| pair_id | digest of the three texts |",
        "| prompt, chosen, rejected | texts, as preference trainers read them |",
        "| weight | what the pair counts in the loss: from the annotator's margin, or 1 (of split votes \\|2 share - 1\\|) for people's label |",
        "| confidence | 2 sigmoid(margin) - 1, in [0, 1]; empty for people's label |",
        "| margin | score of the chosen minus score of the rejected response, in logits; empty for people's label |",
        "| label_source | human or annotator |",
        "",
        "`report.html` says how far to trust the annotator's labels, `report.json` holds the numbers.",
    ]
    return "\n".join(lines) + "\n"


def escape(text: Any) -> str:
    """HTML of a text from anywhere, its control characters and changes of direction visible."""
    return html.escape(visible(str(text)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow; cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"


def _cells(value: Mapping[str, float]) -> list[str]:
    return [f"{value['mean']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}", f"{value['n']:,}"]
