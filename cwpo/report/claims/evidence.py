"""The data that claims are tested on: our results and the paper's numbers in the same columns, one row per arm and seed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from cwpo.config.families import family
from cwpo.report.inputs import Results
from cwpo.results import CONFIDENCE_COLUMNS

ARM_COLUMNS = (
    "experiment data weak strong family rank annotator method objective weighting keep_fraction human_fraction own_share "
    "poison_fraction seed gra reward win_rate reward_sft margin_agreement mean_length truncated_share n_eval run_key git_commit"
).split()
ANNOTATOR_COLUMNS = (
    "experiment data weak family rank annotator scoring human_fraction own_share poison_fraction seed accuracy "
    "accuracy_gold train_seconds n_eval run_key git_commit"
).split()
PAPER_METHODS = {
    ("table3", "human"): "human_all",
    ("figure3_right", "human"): "human_labeled",
    ("table21", "online_dpo_reward_model"): "online_rm",
}
PAPER_METRICS = {
    "gra": "gra",
    "win_rate_gpt4": "gra",
    "win_rate_vs_human_arm": "win_rate",
    "annotator_accuracy_vs_human": "accuracy",
    "training_seconds": "train_seconds",
}
PAPER_EXPERIMENTS = {"table10": "figure2", "table11": "figure2"}
WEAK_LABELS = ("ws_po", "cw_po", "filter", "online_ws_po", "online_cw_po")
MIX = "labeled_mix_harmless/helpful"


@dataclass(frozen=True)
class Evidence:
    """`arms`: GRA and win rates in percent, `reward` the mean gold reward of the aligned model, `reward_sft` of its SFT model.

    `annotators`: accuracies in percent (`accuracy` against human labels), train_seconds in seconds. `rank` counts the models of
    an experiment and family from the smallest, 0; in `arms` the strong ones, in `annotators` the weak. `confidences` is as in
    confidences.csv.
    """

    arms: pd.DataFrame
    annotators: pd.DataFrame
    confidences: pd.DataFrame


def of_results(results: Results) -> Evidence:
    """Our own runs."""
    runs, trained = results.arms, results.annotators
    arms = runs.assign(
        gra=100 * runs["gra"].astype(float),
        reward=runs["reward_mean"].astype(float),
        reward_sft=runs["reward_sft_mean"].astype(float),
        win_rate=runs["run_key"].map(_win_rates(results)).astype(float),
    )
    annotators = trained.assign(
        accuracy=100 * trained["accuracy_human"].astype(float),
        accuracy_gold=100 * trained["accuracy_gold"].astype(float),
    )
    return _evidence(arms, annotators, results.confidences)


def _evidence(arms: pd.DataFrame, annotators: pd.DataFrame, confidences: pd.DataFrame) -> Evidence:
    return Evidence(
        _ranked(arms, "strong")[ARM_COLUMNS], _ranked(annotators, "weak")[ANNOTATOR_COLUMNS], confidences
    )


def _ranked(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """With the family of the models in `column`, and their rank by size within the experiment and the family."""
    frame = frame.assign(family=[family(name) for name in frame[column]])
    sizes = pd.Series([model_size(name) for name in frame[column]], index=frame.index, dtype=float)
    return frame.assign(rank=sizes.groupby([frame["experiment"], frame["family"]]).rank(method="dense") - 1)


def of_paper(paper: pd.DataFrame) -> Evidence:
    """The published numbers, as if they were one seed. Figure 4 has no CW-PO cell of its own: it is Table 4's."""
    rows: list[dict] = []
    for given in paper.to_dict("records"):
        setting = dict(part.split("=") for part in given["setting"].split(";") if part)
        method, _, _ = given["method"].partition("_pairrm")
        experiment = PAPER_EXPERIMENTS.get(given["source"], given["source"])
        row = {
            "experiment": experiment,
            "data": given["dataset"],
            "weak": given["weak"],
            "strong": given["strong"],
            "objective": given["objective"],
            "seed": 0,
            "method": PAPER_METHODS.get((given["source"], method), method),
            "weighting": setting.get("weighting", "C1").lower(),
            "run_key": f"paper{len(rows)}",
        }
        for name in ("keep_fraction", "human_fraction", "poison_fraction"):
            row[name] = float(setting.get(name, "nan"))
        if MIX in setting:
            harmless, helpful = (float(part) / 100 for part in setting[MIX].split("/"))
            row["own_share"] = harmless if given["dataset"] == "harmless" else helpful
        if method == "filter" and row["keep_fraction"] == 1:
            row["method"] = "ws_po"
        if given["method"].startswith("annotator="):
            row["annotator"] = given["method"].partition("=")[2]
            row["scoring"] = "likelihood" if row["annotator"] in ("dpo", "sft_dpo") else None
        elif row["method"] in WEAK_LABELS:
            row["annotator"] = "pairrm" if given["method"].endswith("_pairrm") else "bt"
        row[PAPER_METRICS[given["metric"]]] = float(given["value"])
        rows.append(row)
        if experiment == "table4" and method == "cw_po" and family(given["strong"]) == "opt":
            rows.append(row | {"experiment": "figure4", "run_key": f"paper{len(rows)}"})
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(ARM_COLUMNS + ANNOTATOR_COLUMNS)))
    is_annotator = frame["experiment"].isin(("table6", "table12", "table13"))
    no_confidences = pd.DataFrame(columns=CONFIDENCE_COLUMNS)
    return _evidence(frame[~is_annotator], frame[is_annotator], no_confidences)


def model_size(name: str) -> float:
    """Parameters from a model's name, up to a factor: `opt-1.3b`, `stories260k`, `qwen2-48x3` (width² · layers); NaN if none."""
    last = name.rsplit("/", 1)[-1].lower()
    if shape := re.search(r"(\d+)x(\d+)", last):
        return float(shape[1]) ** 2 * float(shape[2])
    if counted := re.search(r"(\d+(?:\.\d+)?)([kmb])(?![a-z0-9])", last):
        return float(counted[1]) * {"k": 1e3, "m": 1e6, "b": 1e9}[counted[2]]
    return float("nan")


def _win_rates(results: Results) -> dict[str, float]:
    """Figure 5: by run key, the win rate in percent of CW-PO runs against the Human run of the same cell and seed, ties half."""
    cell = ["data", "weak", "strong", "objective", "seed"]
    runs = results.runs[results.runs["experiment"] == "figure5"]
    human = runs[runs["method"] == "human"].drop_duplicates(cell, keep=False)
    both = runs[runs["method"] == "cw_po"].merge(human, on=cell, suffixes=("", "_human"))
    keys = zip(both["run_key"], both["run_key_human"])
    return {key: 100 * float(results.wins_over(key, other).mean()) for key, other in keys}
