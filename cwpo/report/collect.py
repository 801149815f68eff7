"""The result files of one scale, and the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cwpo.errors import InputError
from cwpo.results import (
    ANNOTATOR_COLUMNS,
    DETAIL_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    ResultsError,
    RunRewards,
    read_rows,
)

SCALE_NOTES = {
    "toy": "toy scale: synthetic world, models of 10^4 to 10^5 parameters",
    "paper": "paper scale: the published models and data",
}
METHOD_NAMES = {"human": "Human", "ws_po": "WS-PO", "cw_po": "CW-PO", "filter": "Top-N%"}
DATA_NAMES = {
    "harmless": "Harmless",
    "helpful": "Helpful",
    "hh_rlhf": "HH-RLHF",
    "tldr": "TL;DR",
    "ufb": "UFB",
}
FAMILIES = {"opt": "OPT", "qwen": "Qwen", "llama": "Llama"}


@dataclass(frozen=True)
class Results:
    """Everything the report reads. Frames are empty, with their columns, where a file does not exist."""

    scale: str
    runs: pd.DataFrame
    annotators: pd.DataFrame
    details: pd.DataFrame
    rewards: dict[str, RunRewards]
    paper: pd.DataFrame

    def of(self, experiment: str) -> pd.DataFrame:
        """The rows of runs.csv of one experiment, with the family of the strong model."""
        rows = self.runs[self.runs["experiment"] == experiment]
        return rows.assign(family=[family(name) for name in rows["strong"]])

    def wins(self, rows: pd.DataFrame) -> list[np.ndarray]:
        """Per row (seed), 1 where the aligned model beats its SFT model on a prompt, else 0."""
        found = [self.rewards[key] for key in rows["run_key"]]
        return [(run.reward > run.reward_sft).astype(float) for run in found]

    def gold(self, rows: pd.DataFrame) -> list[np.ndarray]:
        """Per row (seed), the aligned model's gold reward on each prompt, in the order of prompt ids."""
        return [self.rewards[key].reward for key in rows["run_key"]]


def load(results: Path, scale: str) -> Results:
    """Read and check the files of results/<scale>/. Raises InputError where there are none, ResultsError for bad ones."""
    folder = results / scale

    def read(name: str, columns: list[str]) -> pd.DataFrame:
        return (
            read_rows(folder / name, columns) if (folder / name).is_file() else pd.DataFrame(columns=columns)
        )

    if not (folder / "runs.csv").is_file() and not (folder / "annotators.csv").is_file():
        have = sorted(path.parent.name for path in results.glob("*/runs.csv"))
        raise InputError(
            f"scale={scale}: no results in {folder}; there are results of: {', '.join(have) or 'none'}. "
            f"Run `make reproduce SCALE={scale}` first"
        )
    runs = read("runs.csv", RUN_COLUMNS)
    rows = read("rewards.csv.gz", REWARD_COLUMNS).to_dict("records")
    rewards = {row["run_key"]: RunRewards.parse(row) for row in rows}
    _check_rewards(folder, runs, rewards)
    return Results(
        scale=scale,
        runs=runs,
        annotators=read("annotators.csv", ANNOTATOR_COLUMNS),
        details=read("details.csv", DETAIL_COLUMNS),
        rewards=rewards,
        paper=_paper(results / "paper" / "paper_results.csv"),
    )


def _check_rewards(folder: Path, runs: pd.DataFrame, rewards: dict[str, RunRewards]) -> None:
    have = {key: min(len(run.reward), len(run.reward_sft)) for key, run in rewards.items()}
    wrong = [
        f"{key} has {have.get(key, 0)} of {n}"
        for key, n in zip(runs["run_key"], runs["n_eval"])
        if have.get(key, 0) != n
    ]
    if wrong:
        raise ResultsError(
            f"{folder / 'rewards.csv.gz'} lacks prompts of {len(wrong)} of {len(runs)} runs ({'; '.join(wrong[:3])}); "
            "run their experiments again, which takes everything finished from the store"
        )


def pairs(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The (family, weak, strong) in `rows`: OPT, Qwen, Llama, then others."""
    found = set(rows[["family", "weak", "strong"]].itertuples(index=False, name=None))
    return sorted(found, key=lambda pair: (_rank(pair[0], FAMILIES), pair))


def datasets(rows: pd.DataFrame) -> list[str]:
    """The data sets in `rows`: the paper's, in its order, then others."""
    return sorted(set(rows["data"]), key=lambda name: (_rank(name, DATA_NAMES), name))


def _rank(name: str, known: dict[str, str]) -> int:
    return [*known, name].index(name)


def one_per_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one cell, unchanged. Raises ResultsError if two share a seed: they differ in what no column says."""
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        keys = ", ".join(f"{key} (seed {seed})" for key, seed in zip(twice["run_key"], twice["seed"]))
        name = rows["experiment"].iloc[0]
        raise ResultsError(
            f"{name}: one cell has several runs of the same seed, so of different settings: {keys}; give runs of your own "
            f"another name (name=mine), and restore these rows with `make reproduce EXPERIMENT={name}`"
        )
    return rows


def family(model: str) -> str:
    """opt, qwen or llama from the last part of a model's name; the name itself for others."""
    last = model.rsplit("/", 1)[-1].lower()
    return next((key for key in FAMILIES if last.startswith(key)), last)


def _paper(path: Path) -> pd.DataFrame:
    columns = "source weak strong dataset objective method setting metric value std note".split()
    return pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame(columns=columns)


def paper_value(paper: pd.DataFrame, **conditions: str) -> float | None:
    """The one published number, in percent, that meets the conditions; `weak` matches by its beginning. None if none does."""
    rows = paper
    for column, wanted in conditions.items():
        if column == "weak":
            rows = rows[rows[column].str.startswith(wanted)]
        else:
            rows = rows[rows[column] == wanted]
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} published numbers meet {conditions}")
    return float(rows["value"].iloc[0]) if len(rows) else None
