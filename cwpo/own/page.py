"""Makes the annotator report, one HTML file with its figures inside, and the card of the weighted data set."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from cwpo.own.verdict import TOO_FEW, more_in_words, too_wide
from cwpo.pages import image, markdown_table, render

BLUE, GREY, RED = "#0072B2", "#8a8a8a", "#D55E00"
Points = Sequence[Mapping[str, float]]  # each with mean, low and high
ROWS_SHOWN = 10  # row numbers listed for each reason why pairs were left out
COLUMNS = {
    "pair_id": "digest of the three texts",
    "prompt, chosen, rejected": "texts, as preference trainers read them",
    "weight": "what the pair counts in the loss: from the annotator's margin, or 1 (of split votes |2 share - 1|) for people's label",
    "confidence": "2 sigmoid(margin) - 1, in [0, 1]; empty for people's label",
    "margin": "score of the chosen minus score of the rejected response, in logits; empty for people's label",
    "label_source": "human or annotator",
}


def report_page(numbers: Mapping[str, Any]) -> str:
    """Returns the HTML of report.html, made from the numbers of report.json. Texts that come from data are escaped."""
    found = numbers["calibration"]
    figures = {
        "coverage": _coverage(numbers),
        "before": _reliability(found["bins_before"], "without a temperature"),
        "after": _reliability(found["bins_after"], "with a temperature"),
    }
    if len(numbers["learning_curve"]) > 1:
        figures["learning"] = _learning(numbers["learning_curve"])
    return render(
        "annotator.html.jinja",
        numbers=numbers,
        figures={name: image(png) for name, png in figures.items()},
        cells=_cells,
        more_in_words=more_in_words,
        rows_shown=ROWS_SHOWN,
    )


def _cells(value: Mapping[str, float]) -> list[str]:
    if too_wide(value):
        return [TOO_FEW, "", f"{value['n']:,}"]
    return [f"{value['mean']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}", f"{value['n']:,}"]


def card(numbers: Mapping[str, Any]) -> str:
    """Returns the text of README.md, the card of the weighted data set."""
    verdict = numbers["verdict"]
    parts = [
        "# Weighted preference pairs",
        numbers["about"],
        f"**{verdict['sentence']}**",
        "\n".join(f"- {reason}" for reason in verdict["reasons"]),
        markdown_table(["column", "meaning"], list(COLUMNS.items()), left=2),
        "`report.html` says how far to trust the annotator's labels, `report.json` holds the numbers.\n",
    ]
    return "\n\n".join(parts)


def _coverage(numbers: Mapping[str, Any]) -> bytes:
    """Draws accuracy against the share of pairs kept, most confident first; returns the PNG."""
    figure, axis = _axes(5.6)
    rows = numbers["coverage"]
    x = [100 * row["coverage"] for row in rows]
    _band(axis, x, rows, BLUE, "annotator, most confident first")
    _band(axis, x, numbers["coverage_by_length_gap"], GREY, "annotator, largest gap in length first")
    axis.axhline(numbers["target_accuracy"], color=RED, linewidth=1, linestyle="--", label="wanted accuracy")
    longer = numbers["baselines"]["longer"]["mean"]
    axis.axhline(longer, color=GREY, linewidth=1, linestyle=":", label="naming the longer response")
    axis.set(xlabel="pairs kept, %", ylabel="share labelled right")
    axis.set_title(f"{numbers['decided_pairs']:,} held-out pairs; bands: 95 %", fontsize=9)
    axis.legend(fontsize=8, frameon=False)
    return _png(figure)


def _reliability(rows: Points, title: str) -> bytes:
    """Draws observed against expected accuracy, one point for each confidence bin; returns the PNG."""
    figure, axis = _axes(4.2)
    axis.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1)
    errors = [[r["mean"] - r["low"] for r in rows], [r["high"] - r["mean"] for r in rows]]
    x = [row["expected"] for row in rows]
    axis.errorbar(x, [r["mean"] for r in rows], yerr=errors, fmt="o", color=BLUE, markersize=4)
    axis.set(xlabel="expected share right", ylabel="observed share right", xlim=(0.48, 1.02), ylim=(-0.02, 1.05))
    axis.set_title(title, fontsize=9)
    return _png(figure)


def _learning(rows: Points) -> bytes:
    """Draws accuracy against the number of training labels; returns the PNG."""
    figure, axis = _axes(5.6)
    x = [row["n_train"] for row in rows]
    _band(axis, x, rows, BLUE, "annotator")
    axis.set(xlabel="labelled pairs trained on", ylabel="accuracy on held-out pairs", xscale="log")
    axis.set_xticks(x, [str(n) for n in x])
    axis.set_xticks([], minor=True)
    return _png(figure)


def _axes(width: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, 3.5), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _band(axis: Any, x: Sequence[float], rows: Points, color: str, label: str) -> None:
    axis.plot(x, [r["mean"] for r in rows], marker="o", markersize=4, color=color, label=label)
    axis.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], alpha=0.15, color=color)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
