"""The annotator report as one HTML file with its figures inside, and the data-set card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cwpo.own.figures import report_figures
from cwpo.own.verdict import TOO_FEW, more_in_words, too_wide
from cwpo.pages import image, markdown_table, render

ROWS_SHOWN = 10  # row numbers named for each reason
COLUMNS = {
    "pair_id": "digest of the three texts",
    "prompt, chosen, rejected": "texts, as preference trainers read them",
    "weight": "what the pair counts in the loss: from the annotator's margin, or 1 (of split votes |2 share - 1|) for people's label",
    "confidence": "2 sigmoid(margin) - 1, in [0, 1]; empty for people's label",
    "margin": "score of the chosen minus score of the rejected response, in logits; empty for people's label",
    "label_source": "human or annotator",
}


def report_page(numbers: Mapping[str, Any]) -> str:
    """report.html from the numbers of report.json. Every text that comes from data is escaped."""
    figures = {name: image(png) for name, png in report_figures(numbers).items()}
    return render(
        "annotator.html.jinja",
        numbers=numbers,
        figures=figures,
        cells=_cells,
        more_in_words=more_in_words,
        rows_shown=ROWS_SHOWN,
    )


def _cells(value: Mapping[str, float]) -> list[str]:
    if too_wide(value):
        return [TOO_FEW, "", f"{value['n']:,}"]
    return [f"{value['mean']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}", f"{value['n']:,}"]


def card(numbers: Mapping[str, Any]) -> str:
    """README.md of the weighted data set."""
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
