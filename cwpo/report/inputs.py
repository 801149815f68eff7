"""The result files of one scale, and the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.errors import InputError
from cwpo.report.names import FAMILIES, family
from cwpo.results import (
    ANNOTATOR_COLUMNS,
    CONFIDENCE_COLUMNS,
    DETAIL_COLUMNS,
    DISAGREEMENT_COLUMNS,
    EMBEDDING_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    ResultsError,
    RunRewards,
    read_rows,
)
from cwpo.statistics import Floats, resampled_means

SCALE_NOTES = {
    "toy": "toy scale: synthetic world, models of 10^4 to 10^5 parameters",
    "paper": "paper scale: the published models and data",
}
METHOD_NAMES = {
    "human": "Human",
    "ws_po": "WS-PO",
    "cw_po": "CW-PO",
    "filter": "Top-N%",
    "human_all": "Human 100 %",
    "human_labeled": "Human, labeled part",
    "gold": "Gold labels",
    "flips": "Uniform flips",
    "online_ws_po": "Online WS-PO",
    "online_cw_po": "Online CW-PO",
    "online_rm": "Online, reward model",
}
DATA_NAMES = {
    "harmless": "Harmless",
    "helpful": "Helpful",
    "hh_rlhf": "HH-RLHF",
    "tldr": "TL;DR",
    "ufb": "UFB",
    "shp_askacademia": "AskAcademia",
    "shp_askbaking": "AskBaking",
    "shp_askengineers": "AskEngineers",
    "shp_askphilosophy": "AskPhilosophy",
}
RESAMPLES = 1000
PAPER = Path("paper") / "paper_results.csv"  # below results/


@dataclass(frozen=True, eq=False)  # equal only to itself, so that what is computed from it can be kept
class Results:
    """Everything the report reads. Frames are empty, with their columns, where a file does not exist."""

    scale: str
    runs: pd.DataFrame
    annotators: pd.DataFrame
    details: pd.DataFrame
    confidences: pd.DataFrame
    samples: pd.DataFrame
    disagreements: pd.DataFrame
    embeddings: pd.DataFrame
    rewards: dict[str, RunRewards]
    paper: pd.DataFrame

    def of(self, *experiments: str) -> pd.DataFrame:
        """The rows of runs.csv and details.csv of the first of these experiments that has any, with the strong model's family."""
        for name in experiments:
            rows = self._arms[self._arms["experiment"] == name]
            if len(rows):
                break
        return rows

    def annotators_of(self, experiment: str) -> pd.DataFrame:
        """The rows of annotators.csv of one experiment, with the weak model's family."""
        rows = self.annotators[self.annotators["experiment"] == experiment]
        return rows.assign(family=[family(name) for name in rows["weak"]])

    def wins(self, rows: pd.DataFrame) -> list[Floats]:
        """Per row (seed), 1 where the aligned model beats its SFT model on a prompt, else 0."""
        found = [self.rewards[key] for key in rows["run_key"]]
        return [(run.reward > run.reward_sft).astype(float) for run in found]

    def gold(self, rows: pd.DataFrame) -> list[Floats]:
        """Per row (seed), the aligned model's gold reward on each prompt, in the order of prompt ids."""
        return [self.rewards[key].reward for key in rows["run_key"]]

    @cached_property
    def _arms(self) -> pd.DataFrame:
        joined = self.runs.merge(self.details, on="run_key", how="left")
        return _plain(joined.assign(family=[family(name) for name in joined["strong"]]))

    @cached_property
    def resampled(self) -> dict[str, tuple[Floats, Floats]]:
        """By run key, the resampled means, (RESAMPLES,), of wins over the SFT model and of gold rewards.

        Runs with equally many prompts share their draws, so two runs on the same prompts can be subtracted.
        """
        by_size: dict[int, list[str]] = {}
        for key, run in self.rewards.items():
            by_size.setdefault(len(run.reward), []).append(key)
        found: dict[str, tuple[Floats, Floats]] = {}
        for keys in by_size.values():
            gold = np.stack([self.rewards[key].reward for key in keys])
            wins = gold > np.stack([self.rewards[key].reward_sft for key in keys])
            both = resampled_means(wins, RESAMPLES), resampled_means(gold, RESAMPLES)
            found |= {key: (w, g) for key, w, g in zip(keys, *both)}
        return found


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
        confidences=read("confidences.csv", CONFIDENCE_COLUMNS),
        samples=read("samples.csv", SAMPLE_COLUMNS),
        disagreements=read("disagreements.csv", DISAGREEMENT_COLUMNS),
        embeddings=read("embeddings.csv", EMBEDDING_COLUMNS),
        rewards=rewards,
        paper=_paper(results / PAPER),
    )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Text as plain objects in one block: a report asks for a few rows thousands of times, which is slow from Arrow arrays."""
    text = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    return frame.astype(dict.fromkeys(text, object)).copy()


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


def _paper(path: Path) -> pd.DataFrame:
    columns = "source weak strong dataset objective method setting metric value std note".split()
    return (
        _plain(pd.read_csv(path, keep_default_na=False)) if path.is_file() else pd.DataFrame(columns=columns)
    )


def paper_row(paper: pd.DataFrame, **conditions: str) -> dict[str, Any] | None:
    """The one published number, in percent, that meets the conditions; `weak` matches by its beginning. None if none does."""
    keep = np.ones(len(paper), dtype=bool)
    for column, wanted in conditions.items():
        values = paper[column]
        keep &= (values.str.startswith(wanted) if column == "weak" else values == wanted).to_numpy(dtype=bool)
    rows = paper[keep]
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} published numbers meet {conditions}")
    return dict(rows.iloc[0]) if len(rows) else None


def paper_value(paper: pd.DataFrame, **conditions: str) -> float | None:
    """As `paper_row`, the number alone."""
    row = paper_row(paper, **conditions)
    return None if row is None else float(row["value"])
