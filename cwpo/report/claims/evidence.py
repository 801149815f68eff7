"""The data that claims are tested on: our results and the paper's numbers in the same columns, one row per arm and seed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cwpo.config.families import family
from cwpo.report.inputs import Results
from cwpo.report.names import WS_DPO, model_size
from cwpo.results import CONFIDENCE_COLUMNS

ARM_COLUMNS = (
    "experiment data weak strong family rank annotator method objective weighting keep_fraction human_fraction own_share "
    "poison_fraction seed gra reward win_rate reward_sft margin_agreement kl mean_length truncated_share labels seconds n_eval run_key "
    "git_commit"
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
BT_LABELS = ("ws_bt", "cw_po", "filter", "online_ws_po", "online_cw_po")
MIX = "labeled_mix_harmless/helpful"


@dataclass(frozen=True)
class Evidence:
    """The results that claims are tested on, a row per arm and seed (`arms`) or per annotator and seed (`annotators`).

    `arms`: `gra` and `win_rate` are percentages; `reward` and `reward_sft` are the mean gold rewards of the aligned
    model and of its SFT model; `kl` is in nats per response; `labels` is human_fraction in percent, but 100 for method
    human_all; `seconds` is the time to train the aligned model and its annotator, if it has one.
    `annotators`: `accuracy` (against human labels) and `accuracy_gold` are percentages. In both frames `rank` orders
    the models of an experiment and family by size, from 0: strong ones in `arms`, weak ones in `annotators`.
    """

    arms: pd.DataFrame
    annotators: pd.DataFrame
    confidences: pd.DataFrame


def of_results(results: Results) -> Evidence:
    """Returns our runs as evidence. Gold rewards that cannot be compared across runs are NaN (RunRewards.relative)."""
    runs, trained = results.arms, results.annotators
    annotated = runs["annotator_seconds"].astype(float)
    absolute = ~runs["run"].map(lambda run: results.rewards[run].relative).astype(bool)
    arms = runs.assign(
        gra=100 * runs["gra"].astype(float),
        reward=runs["reward_mean"].astype(float).where(absolute),
        reward_sft=runs["reward_sft_mean"].astype(float).where(absolute),
        win_rate=runs["run"].map(_win_rates(results)).astype(float),
        labels=_labels(runs),
        seconds=runs["train_seconds"].astype(float) + annotated.where(runs["annotator"].notna(), 0.0),
    )
    annotators = trained.assign(
        accuracy=100 * trained["accuracy_human"].astype(float),
        accuracy_gold=100 * trained["accuracy_gold"].astype(float),
    )
    return _evidence(arms, annotators, results.confidences)


def _labels(runs: pd.DataFrame) -> pd.Series:
    return (100 * runs["human_fraction"].astype(float)).where(runs["method"] != "human_all", 100.0)


def _evidence(arms: pd.DataFrame, annotators: pd.DataFrame, confidences: pd.DataFrame) -> Evidence:
    return Evidence(_ranked(arms, "strong")[ARM_COLUMNS], _ranked(annotators, "weak")[ANNOTATOR_COLUMNS], confidences)


def _ranked(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Adds two columns about the model in `column`: its `family`, and `rank`, its place among the models of the same
    family in the same experiment, ordered by size (0: the smallest)."""
    frame = frame.assign(family=[family(name) for name in frame[column]])
    sizes = pd.Series([model_size(name) for name in frame[column]], index=frame.index, dtype=float)
    return frame.assign(rank=sizes.groupby([frame["experiment"], frame["family"]]).rank(method="dense") - 1)


def of_paper(paper: pd.DataFrame) -> Evidence:
    """Returns the published numbers as evidence with one seed, 0. Figure 4 takes CW-PO with OPT from Table 4."""
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
            row["method"] = "ws_bt"
        if given["method"].startswith("annotator="):
            row["annotator"] = given["method"].partition("=")[2]
            row["scoring"] = "likelihood" if row["annotator"] in ("dpo", "sft_dpo") else None
        elif row["method"] in BT_LABELS:
            row["annotator"] = "pairrm" if given["method"].endswith("_pairrm") else "bt"
        row[PAPER_METRICS[given["metric"]]] = float(given["value"])
        if method == "ws_po":
            rows += [row | {"method": name, "run_key": f"{row['run_key']}{name}"} for name in WS_DPO]
            continue
        rows.append(row)
        if experiment == "table4" and method == "cw_po" and family(given["strong"]) == "opt":
            rows.append(row | {"experiment": "figure4", "run_key": f"paper{len(rows)}"})
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(ARM_COLUMNS + ANNOTATOR_COLUMNS)))
    frame["labels"] = _labels(frame)
    is_annotator = frame["experiment"].isin(("table6", "table12", "table13"))
    no_confidences = pd.DataFrame(columns=CONFIDENCE_COLUMNS)
    return _evidence(frame[~is_annotator], frame[is_annotator], no_confidences)


def _win_rates(results: Results) -> dict[str, float]:
    """Maps each CW-PO run of figure5 to its win rate in percent against Human in its cell and seed; ties count half."""
    cell = ["data", "weak", "strong", "objective", "seed"]
    runs = results.arms[results.arms["experiment"] == "figure5"]
    human = runs[runs["method"] == "human"].drop_duplicates(cell, keep=False)
    both = runs[runs["method"] == "cw_po"].merge(human, on=cell, suffixes=("", "_human"))
    keys = [pair for pair in zip(both["run"], both["run_human"]) if not results.relative(*pair)]
    return {key: 100 * float(results.wins_over(key, other).mean()) for key, other in keys}
