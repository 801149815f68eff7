"""From the report's numbers to plain advice: use the weights, the most confident pairs only, label more, or do not use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

FEW = 100  # held-out pairs below which nothing is concluded but "label more"
GAIN = 0.02  # accuracy that 500 more labels must promise to be worth asking for


class Verdict(NamedTuple):
    """`advice` is weights, top, more_labels or do_not_use; `coverage` the share to keep under `top`."""

    advice: str
    coverage: float
    title: str
    reasons: list[str]


def verdict(numbers: Mapping[str, Any], target: float) -> Verdict:
    """The advice for an annotator that should be right on at least `target` of the pairs, in (1/2, 1).

    In this order: fewer than FEW held-out pairs -> more_labels. The interval of accuracy reaches down to 1/2, or the annotator is
    worse than a baseline (interval of the paired difference below 0) -> more_labels where the learning curve promises GAIN, else
    do_not_use. Accuracy's lower end at least `target`, and confidence tells right from wrong -> weights. Else the largest share
    of most confident pairs whose accuracy has its lower end at `target` -> top. Else more_labels or do_not_use, as above.
    """
    accuracy, found = numbers["accuracy"], numbers["discrimination"]
    reasons = [f"right on {_percent(accuracy)} of {accuracy['n']} held-out pairs"]
    names = {"majority": "always naming the same side", "longer": "naming the longer response"}
    beaten = []
    for name, words in names.items():
        gap, base = numbers["difference"][name], numbers["baselines"][name]
        reasons.append(
            f"{words} is right on {base['mean']:.0%}: the annotator is {_points(gap)} better on the same pairs"
        )
        if gap["high"] < 0:
            beaten.append(words)
    informative = found["low"] > 0.5
    reasons.append(
        f"a right label has more confidence than a wrong one with probability {found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]; "
        "0.50 would be chance"
    )
    more = numbers["more_labels"]
    promising = more is not None and more["low"] > 0 and more["mean"] >= GAIN
    if more is not None:
        reasons.append(
            f"{more['extra']} more labels would add about {_points(more)} if accuracy kept growing as it did up to {more['n_train']:.0f}"
        )
    if accuracy["n"] < FEW:
        reasons.append(f"{accuracy['n']} held-out pairs are too few to conclude anything: {FEW} are needed")
        return Verdict("more_labels", 0.0, "Label more pairs", reasons)
    if accuracy["low"] <= 0.5 or beaten:
        reasons.append(
            "it cannot be told from guessing"
            if accuracy["low"] <= 0.5
            else f"{' and '.join(beaten)} is better"
        )
        return _without(promising, reasons)
    if accuracy["low"] >= target and informative:
        reasons.append(f"its accuracy is at least the wanted {target:.0%}, and its confidence is informative")
        return Verdict("weights", 1.0, "Use the labels of all pairs, with their weights", reasons)
    wide = [row for row in numbers["coverage"] if row["low"] >= target and row["n"] >= FEW / 2]
    if wide:
        row = max(wide, key=lambda r: r["coverage"])
        reasons.append(
            f"the most confident {row['coverage']:.0%} are labelled right {_percent(row)}, at least the wanted {target:.0%}"
        )
        if row["coverage"] == 1.0:
            reasons.append(
                "but its confidence does not tell right labels from wrong ones, so weights would add nothing"
            )
            return Verdict("top", 1.0, "Use the labels of all pairs, without weights", reasons)
        return Verdict(
            "top", row["coverage"], f"Use only the most confident {row['coverage']:.0%} of the pairs", reasons
        )
    reasons.append(
        f"no share of the most confident pairs is labelled right at least {target:.0%} of the time"
    )
    return _without(promising, reasons)


def _without(promising: bool, reasons: list[str]) -> Verdict:
    if promising:
        return Verdict("more_labels", 0.0, "Label more pairs before using it", reasons)
    return Verdict("do_not_use", 0.0, "Do not use this annotator", reasons)


def _percent(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def _points(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:+.1f} points [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"
