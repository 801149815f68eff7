"""Reads the result files of one scale, and the paper's published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.config.families import family
from cwpo.errors import InputError
from cwpo.report.names import DATA_NAMES
from cwpo.results import (
    ANNOTATOR_COLUMNS,
    BOTH,
    CONFIDENCE_COLUMNS,
    DETAIL_COLUMNS,
    DISAGREEMENT_COLUMNS,
    EMBEDDING_COLUMNS,
    MATCHED,
    OWN_BEST,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    ResultsError,
    RunRewards,
    read_rows,
    rewards_file,
)
from cwpo.statistics import Floats, resampled_means

RESAMPLES = 1000
PAPER = Path("paper") / "paper_results.csv"  # below results/
PAPER_COLUMNS = "source weak strong dataset objective method setting metric value std note".split()
OPTIONAL = {
    "annotators": ANNOTATOR_COLUMNS,
    "details": DETAIL_COLUMNS,
    "confidences": CONFIDENCE_COLUMNS,
    "samples": SAMPLE_COLUMNS,
    "disagreements": DISAGREEMENT_COLUMNS,
    "embeddings": EMBEDDING_COLUMNS,
}
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Rewards:
    """Maps each run, named as in the column `run` of `Results.runs`, to its gold rewards on the test prompts."""

    runs: dict[str, RunRewards]

    def __getitem__(self, run: str) -> RunRewards:
        return self.runs[run]

    @cached_property
    def resampled(self) -> dict[str, tuple[Floats, Floats]]:
        """Maps each run to its `means`, each (RESAMPLES,): one per bootstrap sample of prompts.

        Runs with equally many prompts use the same samples, so values of runs on the same prompts can be subtracted.
        """
        runs = self.runs.values()
        wins = resampled_means([run.reward > run.reward_sft for run in runs], RESAMPLES)
        gold = resampled_means([run.reward for run in runs], RESAMPLES)
        return dict(zip(self.runs, zip(wins, gold)))


@dataclass(frozen=True, eq=False)  # equal only to itself, so that functions can cache results by it
class Results:
    """The result files of one scale, each as a frame in the field of its name; a missing file's frame has no rows.

    `runs` is runs.csv with one more column, `run`: "experiment/run_key", the key of `rewards`. `paper` has the paper's
    numbers. If `point` is set, the property `arms` has only the runs of that operating point, otherwise all runs.
    """

    scale: str
    runs: pd.DataFrame
    rewards: Rewards
    paper: pd.DataFrame
    annotators: pd.DataFrame
    details: pd.DataFrame
    confidences: pd.DataFrame
    samples: pd.DataFrame
    disagreements: pd.DataFrame
    embeddings: pd.DataFrame
    point: str | None = None

    def at(self, point: str) -> Results:
        """Returns these results, except that `arms` has only the runs whose point is `point`, "both" or blank."""
        return self._points[point]

    @cached_property
    def _points(self) -> dict[str, Results]:
        return {point: replace(self, point=point) for point in (MATCHED, OWN_BEST)}

    def points(self, *experiments: str) -> tuple[str, ...]:
        """Returns the operating points that ran: ("matched", "own_best") or ("matched",).

        Looks at the runs of the first of `experiments` that has any; without arguments, at all runs. A run with point
        "both" counts for the two points, because they have the same learning rate. Returns both points if some run has
        the point "own_best", or if all runs have the point "both".
        """
        where = (self.of(*experiments) if experiments else self.arms)["point"]
        own = (where == OWN_BEST).any() or (len(where) > 0 and (where == BOTH).all())
        return (MATCHED, OWN_BEST) if own else (MATCHED,)

    def of(self, *experiments: str) -> pd.DataFrame:
        """Returns the rows of `arms` of the first of `experiments` that has runs; an empty frame if none has."""
        for name in experiments:
            rows = self.arms[self.arms["experiment"] == name]
            if len(rows):
                break
        return rows

    def annotators_of(self, experiment: str) -> pd.DataFrame:
        """Returns an experiment's rows of annotators.csv, plus `run` (its run_key) and the weak model's `family`."""
        rows = self.annotators[self.annotators["experiment"] == experiment]
        return rows.assign(run=rows["run_key"], family=[family(name) for name in rows["weak"]])

    def relative(self, *runs: str) -> bool:
        """Whether any of these runs has rewards that cannot be compared between runs (see RunRewards.relative)."""
        return any(self.rewards[run].relative for run in runs)

    def wins_over(self, run: str, other: str) -> Floats:
        """Returns an array over prompts: 1 where `run` has a higher gold reward than `other`, 1/2 for a tie, else 0.

        Raises ResultsError if the two runs answered different prompts.
        """
        ours, theirs = self.rewards[run], self.rewards[other]
        if ours.prompts != theirs.prompts:
            raise ResultsError(
                f"runs {run} and {other} answered different prompts and cannot be compared; run both on the same data"
            )
        return (ours.reward > theirs.reward) + (ours.reward == theirs.reward) / 2

    @cached_property
    def arms(self) -> pd.DataFrame:
        """The rows of `runs` at `point` (None: all), joined with details.csv and the `family` of the strong model."""
        joined = self.runs.merge(self.details, on=["experiment", "run_key"], how="left")
        if self.point is not None:
            joined = joined[joined["point"].isin((self.point, BOTH)) | joined["point"].isna()]
        return _plain(joined.assign(family=[family(name) for name in joined["strong"]]))


def load(results: Path, scale: str, experiment: str = "", keys: Iterable[str] = ()) -> Results:
    """Reads and checks the result files in `results`/`scale`, and the paper's numbers.

    If `experiment` is given, `runs` has only its runs with a run key in `keys`, and the other tables are empty, except
    `details` and `paper`. Raises InputError if both runs.csv and annotators.csv are missing, ResultsError if a file is
    damaged or does not fit the others.
    """
    folder = results / scale

    def read(name: str, columns: list[str]) -> pd.DataFrame:
        file = folder / name
        return read_rows(file, columns) if file.is_file() else pd.DataFrame(columns=columns)

    if not (folder / "runs.csv").is_file() and not (folder / "annotators.csv").is_file():
        have = sorted(path.parent.name for path in results.glob("*/runs.csv"))
        raise InputError(
            f"scale={scale}: no results in {folder}; scales with results: {', '.join(have) or 'none'}. "
            f"Run `make reproduce SCALE={scale}` first"
        )
    runs = read("runs.csv", RUN_COLUMNS)
    if experiment:
        runs = runs[(runs["experiment"] == experiment) & runs["run_key"].isin(list(keys))]
    runs = runs.assign(run=runs["experiment"] + "/" + runs["run_key"])
    by_run = _rewards(folder, runs)
    own = [by_run[run] for run in runs["run"]]
    # Counted anew: rewards are rounded to 6 digits, so that numerical noise does not turn a tie into a win.
    ties = [float(np.mean(run.reward == run.reward_sft)) for run in own]
    runs = runs.assign(gra=[run.means[0] for run in own], tie_rate=ties)
    # Read last: a command that adds runs meanwhile writes them to runs.csv, then details.csv, then rewards/.
    wanted = ("details",) if experiment else OPTIONAL
    tables = {
        name: read(f"{name}.csv", columns) if name in wanted else pd.DataFrame(columns=columns)
        for name, columns in OPTIONAL.items()
    }
    return Results(scale, runs, Rewards(by_run), _paper(results / PAPER), **tables)


def _rewards(folder: Path, runs: pd.DataFrame) -> dict[str, RunRewards]:
    """Returns run -> its rewards, read from `folder`. Raises ResultsError if some are missing or do not fit `runs`."""
    by_run: dict[str, RunRewards] = {}
    for experiment, own in runs.groupby("experiment"):
        path = rewards_file(folder, str(experiment))
        rows = read_rows(path, REWARD_COLUMNS) if path.is_file() else pd.DataFrame(columns=REWARD_COLUMNS)
        by_key = {row["run_key"]: RunRewards.parse(row) for row in rows.to_dict("records")}
        _check_rewards(path, own, by_key)
        by_run |= {run: by_key[key] for run, key in zip(own["run"], own["run_key"])}
    return by_run


def _paper(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=PAPER_COLUMNS)
    return _plain(pd.read_csv(path, keep_default_na=False))


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a copy with text as Python strings: thousands of small selections are slow on Arrow arrays."""
    text = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    return frame.astype(dict.fromkeys(text, object)).copy()


def _check_rewards(path: Path, runs: pd.DataFrame, rewards: dict[str, RunRewards]) -> None:
    have = {key: min(len(run.reward), len(run.reward_sft)) for key, run in rewards.items()}
    wrong = [
        f"{key} has {have.get(key, 0)} of {n}"
        for key, n in zip(runs["run_key"], runs["n_eval"])
        if have.get(key, 0) != n
    ]
    if wrong:
        raise ResultsError(
            f"{path} lacks prompts of {len(wrong)} of {len(runs)} runs ({'; '.join(wrong[:3])}); "
            "run the experiment again; finished stages are read from the store, not computed again"
        )
    means = zip(runs["run_key"], runs["reward_mean"])
    others = [key for key, mean in means if not rewards[key].has_mean(float(mean))]
    if others:
        raise ResultsError(
            f"{path} does not fit runs.csv: {len(others)} of {len(runs)} runs have a different mean reward there "
            f"({', '.join(others[:3])}); run the experiment again"
        )


def datasets(rows: pd.DataFrame) -> list[str]:
    """Returns the names of the data sets in `rows`: the paper's in the order of DATA_NAMES, then others sorted."""
    order = list(DATA_NAMES)
    return sorted(set(rows["data"]), key=lambda name: (order.index(name) if name in order else len(order), name))


def one_per_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns `rows`, the runs of one table cell. Raises ResultsError if two have the same seed: they differ in a
    setting that the table does not show, and a mean would mix two settings."""
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        keys = ", ".join(f"{key} (seed {seed})" for key, seed in zip(twice["run_key"], twice["seed"]))
        name = rows["experiment"].iloc[0]
        raise ResultsError(
            f"experiment {name}: the runs {keys} have the same seed and belong in one table cell, but they differ in a "
            "setting that the table does not show; give your own runs another name (name=mine), and restore these rows "
            f"with `make reproduce EXPERIMENT={name}`"
        )
    return rows


def select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the rows of `frame` that meet `where`, column -> value (None: blank); numbers match within TOLERANCE."""
    keep = np.ones(len(frame), dtype=bool)
    for column, wanted in where.items():
        values = frame[column]
        if wanted is None:
            keep &= values.isna().to_numpy()
        elif isinstance(wanted, str | bool):
            keep &= (values == wanted).to_numpy(dtype=bool)
        else:
            keep &= np.abs(values.to_numpy(dtype=float, na_value=np.nan) - wanted) < TOLERANCE
    return frame[keep]


def commits(column: pd.Series) -> str:
    """Returns the distinct git commits in a column, joined by commas; `not recorded` if there are none."""
    return ", ".join(sorted({str(commit) for commit in column.dropna()} - {""})) or "not recorded"


def paper_row(paper: pd.DataFrame, **conditions: str) -> dict[str, Any] | None:
    """Returns the one row of `paper` (paper_results.csv) that meets the conditions, column=value; None if none does.

    Its `value` is in percent, or in seconds for metric training_seconds. Raises ValueError if several rows qualify.
    """
    rows = select(paper, conditions)
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} published numbers meet {conditions}; add conditions that only one meets")
    return dict(rows.iloc[0]) if len(rows) else None
