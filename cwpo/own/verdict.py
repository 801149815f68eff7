"""Turns numbers of the report into advice: use all labels, keep the most confident ones, label more, or use none."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from cwpo.own.defaults import usual_settings

LEARNED = 0.6  # accuracy on training pairs below which the training did little
FEW = 100  # held-out pairs; with fewer, the only advice is to label more
GAIN = 0.02  # gain in accuracy that 500 more labels must promise before the advice asks for them
WIDE = 0.2  # a wider interval, of a share or of a difference, is of no use
TOO_FEW = "too few labels to say"
BASELINES = {"majority": "always naming the same side", "longer": "naming the longer response"}


class Verdict(NamedTuple):
    """What to do with the annotator's labels. `title` says it in words; `reasons` justify it, the decisive reason last.

    `advice`: weights (use all labels, with weights), top (use the most confident labels, a share of `coverage`; if this
    is 1, use all labels without weights), more_labels (label more pairs first) or do_not_use. `coverage`: 1 for
    weights, 0 for more_labels and do_not_use.
    """

    advice: str
    coverage: float
    title: str
    reasons: list[str]

    @property
    def sentence(self) -> str:
        """Returns the title and the decisive reason as one sentence."""
        return f"{self.title}: {self.reasons[-1]}."


def verdict(numbers: Mapping[str, Any], target: float) -> Verdict:
    """Returns the advice for an annotator whose accuracy should be at least `target`, in (1/2, 1).

    `numbers`: those of report_numbers. The first rule that applies decides:
    1. There are fewer than FEW held-out pairs -> more_labels.
    2. The interval of accuracy starts at 1/2 or below, or the annotator is worse than a baseline (the interval of their
       difference lies below 0) -> more_labels if the learning curve forecasts a gain of at least GAIN and the interval
       of the gain lies above 0, else do_not_use.
    3. The interval of accuracy starts at `target` or above, and the AUC of confidence is None or its interval lies
       above 1/2 -> weights.
    4. For some share of the most confident pairs, at least FEW / 2 of them, the interval of accuracy starts at `target`
       or above -> top, with the largest such share as coverage.
    5. Otherwise -> more_labels or do_not_use, as in rule 2.
    """
    accuracy, sure, more = numbers["accuracy"], numbers["discrimination"], numbers["more_labels"]
    reasons, beaten = _facts(numbers)
    if accuracy["n"] < FEW:
        reasons.append(f"{accuracy['n']} held-out pairs are too few to conclude anything: {FEW} are needed")
        return Verdict("more_labels", 0.0, "Label more pairs", reasons)
    promising = more is not None and more["low"] > 0 and more["mean"] >= GAIN
    if accuracy["low"] <= 0.5:
        return _without(promising, [*reasons, "it cannot be told from guessing"])
    if beaten:
        return _without(promising, [*reasons, f"{' and '.join(beaten)} is better, and free"])
    informative = sure is None or sure["low"] > 0.5
    if accuracy["low"] >= target and informative:
        reasons.append(f"its accuracy is at least the wanted {target:.0%}, and its confidence is informative")
        return Verdict("weights", 1.0, "Use the labels of all pairs, with their weights", reasons)
    enough = [row for row in numbers["coverage"] if row["low"] >= target and row["n"] >= FEW / 2]
    if not enough:
        reasons.append(f"no share of the most confident pairs is sure to be labelled right {target:.0%} of the time")
        return _without(promising, reasons)
    widest = max(enough, key=lambda row: row["coverage"])
    kept = f"{widest['coverage']:.0%}"
    right = f"{percent(widest)} of these are right, at least the wanted {target:.0%}"
    if widest["coverage"] == 1.0:
        reasons.append(right)
        reasons.append("its confidence does not tell right labels from wrong ones, so weights add nothing")
        return Verdict("top", 1.0, "Use the labels of all pairs, without weights", reasons)
    reasons.append(f"{right}; of all its labels perhaps only {accuracy['low']:.1%}")
    return Verdict("top", widest["coverage"], f"Use only the most confident {kept} of the annotator's labels", reasons)


def _facts(numbers: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns two lists of texts: reasons, each with a number, and the baselines that are better than the annotator."""
    accuracy, sure, more = numbers["accuracy"], numbers["discrimination"], numbers["more_labels"]
    reasons, beaten = [f"right on {percent(accuracy)} of {accuracy['n']} held-out pairs"], []
    if too_wide(accuracy):
        reasons = [f"accuracy on {accuracy['n']} held-out pairs: {TOO_FEW}"]
    for name, words in BASELINES.items():
        gap, base = numbers["difference"][name], numbers["baselines"][name]
        compared = "better" if gap["low"] > 0 else "worse" if gap["high"] < 0 else "not told apart"
        difference = f"the annotator's difference is {_points(gap)}: {compared}"
        if compared == "not told apart" and too_wide(gap):
            difference = f"{TOO_FEW} whether the annotator is better"
        reasons.append(f"{words} is right on {base['mean']:.1%}; {difference}")
        beaten += [words] if compared == "worse" else []
    if sure is not None:
        shown = TOO_FEW if too_wide(sure) else "{mean:.2f} [{low:.2f}, {high:.2f}]; 0.50 would be chance".format(**sure)
        reasons.append(f"probability that a right label has more confidence than a wrong one: {shown}")
    training = numbers.get("training")
    if training is not None:
        reasons.append(_learning(training, numbers["config"]["annotator"]["training"]["epochs"]))
    if more is not None:
        reasons.append(more_in_words(more))
    return reasons, beaten


def changed(cfg: Any) -> dict[str, Any]:
    """Returns {dotted key: value} of the settings that differ from the defaults of scripts/annotate.py."""
    before, now = (_flat(OmegaConf.to_container(settings)) for settings in (usual_settings(), cfg))
    return {key: value for key, value in now.items() if value != before.get(key, "???")}


def _flat(values: Any, at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        mark = "+" if at == "columns." else ""  # Hydra's sign for a key that the file lacks
        flat |= _flat(value, f"{at}{key}.") if isinstance(value, Mapping) else {f"{mark}{at}{key}": value}
    return flat


def next_step(advice: Verdict, numbers: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, str]:
    """Returns (next step, its command). `numbers`: content of report.json; `again`: the user's non-default settings."""
    cfg, training = numbers["config"], numbers["training"]
    if advice.advice == "weights" or (advice.advice == "top" and advice.coverage < 1):
        words: dict[str, Any] = {
            "preferences": f"{cfg['out']}/preferences.parquet",
            "model": "path/or/hub-id",
            "out": "aligned",
        }
        words |= {"keep": advice.coverage} if advice.coverage < 1 else {}
        return "Align a model (name it in model=) with these pairs", _command("align", words)
    if advice.advice == "top":
        return "Write the labels without weights", _command("annotate", {**again, "weighting": "uniform"})
    if advice.advice == "more_labels":
        labels = numbers["input"]["labeled"]
        return f"Label more of the pairs (now {labels:,}), then repeat the command", _command("annotate", again)
    if training and training["train_accuracy"] < LEARNED and len(training["tried"]) == 1:
        return "Try other learning rates", _command("annotate", {**again, "tune": True})
    of_model = ("model", "revision", "annotator.path", "annotator.training.learning_rate")
    others = {name: value for name, value in again.items() if name not in of_model}
    return "Try a larger model", _command("annotate", {**others, "model": "path/or/hub-id"})


def _command(name: str, words: Mapping[str, Any]) -> str:
    """Returns a command line. Hydra reads numbers, lists of them, true, false and null as JSON writes them."""
    write = functools.partial(json.dumps, separators=(",", ":"))
    given = (f"{key}={value if isinstance(value, str) else write(value)}" for key, value in words.items())
    return f"python scripts/{name}.py {shlex.join(given)}"


def too_wide(value: Mapping[str, float]) -> bool:
    """Returns whether the interval from value["low"] to value["high"] is wider than WIDE."""
    return value["high"] - value["low"] > WIDE


def more_in_words(more: Mapping[str, float]) -> str:
    """Returns a sentence about `more`, the gain in accuracy that `more_labels` forecasts."""
    if more["low"] <= 0 and too_wide(more):
        return f"{TOO_FEW} whether more labels would help"
    return (
        f"{more['extra']} more labels would change accuracy by about {_points(more)} if it kept growing as it did while "
        f"their number grew to {more['n_train']:.0f}"
    )


def _learning(training: Mapping[str, Any], most: float) -> str:
    """Returns a sentence on `training`, first_fold's result: epochs (at most `most`), learning rate and accuracy."""
    known, rate = training["train_accuracy"], training["learning_rate"]
    passes = "1 epoch" if training["epochs"] == 1 else f"{training['epochs']:g} epochs"
    text = f"trained for {passes} at {rate:g}, it is right on {known:.1%} of the pairs it was trained on"
    if training["epochs"] >= most:
        text += f", and its held-out loss was lowest at the end: try annotator.training.epochs={2 * most:g}"
    if known >= LEARNED:
        return text
    return f"{text}: the training taught it little; try another learning rate with tune=true"


def _without(promising: bool, reasons: list[str]) -> Verdict:
    if promising:
        return Verdict("more_labels", 0.0, "Label more pairs before using it", reasons)
    return Verdict("do_not_use", 0.0, "Do not use this annotator", reasons)


def percent(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def _points(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:+.1f} points [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"
