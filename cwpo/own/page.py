"""The annotator report as one HTML file with its figures inside, and the data-set card."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
.verdict{border-left:.4rem solid #0072B2;background:#f2f7fb;padding:.6rem 1rem}
.verdict strong{font-size:1.2rem}
.wide{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%;height:auto}
"""


def report_page(numbers: Mapping[str, Any]) -> str:
    """The whole page. Every text that comes from data is escaped."""
    accuracy, base = numbers["accuracy"], numbers["baselines"]
    bias, calibration = numbers["bias"], numbers["calibration"]
    parts = [
        f"<h1>How far to trust this annotator</h1><p>{_e(numbers['about'])}</p>",
        f"<div class=verdict><strong>{_e(numbers['verdict']['title'])}</strong><ul>"
        + "".join(f"<li>{_e(reason)}</li>" for reason in numbers["verdict"]["reasons"])
        + "</ul></div>",
        "<h2>Accuracy on held-out labelled pairs</h2>",
        _table(
            ["", "right", "95 % interval", "pairs"],
            [
                ["annotator", *_cells(accuracy)],
                ["always the same side", *_cells(base["majority"])],
                ["the longer response", *_cells(base["longer"])],
            ],
        ),
        "<h2>Accuracy of the most confident pairs</h2>",
        _image(_coverage(numbers), "accuracy against the share of pairs kept, most confident first"),
        "<h2>Calibration</h2>",
        _image(
            _reliability(calibration),
            "expected against observed accuracy, before and after temperature scaling",
        ),
        _table(
            ["", "as it is", "temperature fitted on other pairs"],
            [
                [
                    "expected calibration error",
                    f"{calibration['ece_before']:.3f}",
                    f"{calibration['ece_after']:.3f}",
                ],
                [
                    "log-loss, nats",
                    f"{calibration['log_loss_before']:.3f}",
                    f"{calibration['log_loss_after']:.3f}",
                ],
            ],
        )
        + f"<p>Temperature {calibration['temperature']:.2f}: above 1 the annotator is more confident than it should be.</p>",
        "<h2>Labels needed</h2>",
        _image(_curve(numbers["learning_curve"]), "accuracy against the number of labels trained on"),
        "<h2>Bias</h2>",
        _table(
            ["prefers", "annotator", "95 % interval", "people", "95 % interval"],
            [
                [name, *_cells(bias[f"annotator_{key}"])[:2], *_cells(bias[f"people_{key}"])[:2]]
                for name, key in (("the longer response", "prefers_longer"), ("response a", "prefers_a"))
                if bias.get(f"annotator_{key}") and bias.get(f"people_{key}")
            ],
        ),
    ]
    if numbers["domains"]:
        rows = [[_e(name), *_cells(value)] for name, value in numbers["domains"].items()]
        parts += ["<h2>Domains</h2>", _table(["", "right", "95 % interval", "pairs"], rows)]
    if numbers["votes"]:
        votes = numbers["votes"]
        parts += [
            "<h2>Agreement of people</h2>",
            f"<p>{votes['pairs']} held-out pairs have several votes; one vote agrees with their majority "
            f"{votes['one_vote_agrees_with_majority']:.1%} of the time. Confidence and agreement have a rank correlation of "
            f"{votes['rank_correlation']:.2f}.</p>",
        ]
    if "shift" in numbers:
        moved = numbers["shift"]
        rows = [
            [_e(name.replace("_", " ")), f"{d['distance']:.2f}", f"{d['p']:.2g}"]
            for name, d in moved["distances"].items()
        ]
        parts += [
            "<h2>Are the pairs to be labelled like these?</h2>",
            _table(["distribution of", "Kolmogorov-Smirnov distance", "p"], rows),
            f"<p>{moved['unseen_words']:.1%} of their words do not occur in the labelled pairs.</p>",
        ]
    parts += ["<h2>Rows left out</h2>", _dropped(numbers["input"])]
    body = "\n".join(parts)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Annotator report</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )


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
        "| weight | what the pair counts in the loss: 1 for a human label, else from the annotator's margin |",
        "| confidence | 2 sigmoid(margin) - 1, in [0, 1]; empty for a human label |",
        "| margin | score of the chosen minus score of the rejected response, in logits; empty for a human label |",
        "| label_source | human or annotator |",
        "",
        "`report.html` says how far to trust the annotator's labels, `report.json` holds the numbers.",
    ]
    return "\n".join(lines) + "\n"


def _e(text: Any) -> str:
    return html.escape(str(text))


def _cells(value: Mapping[str, float]) -> list[str]:
    return [f"{value['mean']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}", f"{value['n']:,}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"


def _dropped(given: Mapping[str, Any]) -> str:
    rows = [
        [
            _e(reason.replace("_", " ")),
            f"{len(numbers):,}",
            _e(", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")),
        ]
        for reason, numbers in given["dropped"].items()
    ]
    text = f"<p>{given['read']:,} rows read, {given['labeled']:,} of {given['kept']:,} usable pairs have a label.</p>"
    return text + (_table(["reason", "rows", "row numbers"], rows) if rows else "")


def _image(figure: Any, words: str) -> str:
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
    return (
        f"<img alt='{_e(words)}' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
    )


def _axes(columns: int = 1) -> tuple[Any, Any]:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, columns, figsize=(3.6 * columns + 2.4, 3.6), layout="constrained", squeeze=False
    )
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0] if columns > 1 else axes[0][0]


def _band(axis: Any, x: Sequence[float], rows: Sequence[Mapping[str, float]], **style: Any) -> None:
    axis.plot(x, [r["mean"] for r in rows], marker="o", markersize=4, **style)
    axis.fill_between(
        x, [r["low"] for r in rows], [r["high"] for r in rows], alpha=0.15, color=style.get("color")
    )


def _coverage(numbers: Mapping[str, Any]) -> Any:
    figure, axis = _axes()
    rows = numbers["coverage"]
    x = [100 * row["coverage"] for row in rows]
    _band(axis, x, rows, color="#0072B2", label="by confidence")
    _band(axis, x, numbers["coverage_by_length_gap"], color="#999999", label="by length gap")
    axis.axhline(
        numbers["target_accuracy"], color="#D55E00", linewidth=1, linestyle="--", label="wanted accuracy"
    )
    axis.set(xlabel="most confident pairs kept, %", ylabel="accuracy")
    axis.set_title(f"{numbers['decided_pairs']} held-out pairs; bands: 95 %", fontsize=9)
    axis.legend(fontsize=8, frameon=False)
    return figure


def _reliability(calibration: Mapping[str, Any]) -> Any:
    figure, axes = _axes(2)
    for axis, key, title in (
        (axes[0], "bins_before", "as it is"),
        (axes[1], "bins_after", "after temperature scaling"),
    ):
        rows = calibration[key]
        x = [row["expected"] for row in rows]
        axis.plot([0.5, 1], [0.5, 1], color="#999999", linewidth=1)
        errors = [[r["mean"] - r["low"] for r in rows], [r["high"] - r["mean"] for r in rows]]
        axis.errorbar(x, [r["mean"] for r in rows], yerr=errors, fmt="o", color="#0072B2", markersize=4)
        axis.set(
            xlabel="probability that the label is right, expected",
            ylabel="share that is right",
            xlim=(0.48, 1.02),
            ylim=(0, 1.05),
        )
        axis.set_title(title, fontsize=9)
    return figure


def _curve(rows: Sequence[Mapping[str, float]]) -> Any:
    figure, axis = _axes()
    _band(axis, [row["n_train"] for row in rows], rows, color="#0072B2")
    axis.set(xlabel="labelled pairs trained on", ylabel="accuracy on held-out pairs", xscale="log")
    ticks = [row["n_train"] for row in rows]
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.set_xticks([], minor=True)
    return figure
