"""The two kinds of tables: their cells measure either aligned models (runs.csv) or annotators (annotators.csv)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.inputs import Results, one_per_seed
from cwpo.report.tables.cells import RULE, compare, named_interval, outcome, pairs_by_seed
from cwpo.statistics import bootstrap_interval, proportion_interval


@dataclass(frozen=True)
class Number:
    """A number that cells show with its interval, under the heading `title` and with `digits` decimals.

    `name` is its key in a cell and its column in the CSV. `beside`: (key, heading) of another number, shown next to it
    without an interval. `short`: one heading for both numbers in LaTeX.
    """

    name: str
    title: str
    digits: int
    beside: tuple[str, str] | None = None
    short: str = ""


@dataclass(frozen=True)
class Kind:
    """How the numbers of a table are computed and named.

    `frame` returns the runs of one of the experiments that it is given. `cell` computes a cell from its runs. If
    `averages`, a section ends with the mean over its rows; then `cell` must also accept the runs of several cells and
    average over these cells. `compare` computes how two arms differ: it pairs those of their runs that have equal
    values in the columns `same`. `main` is the number that the paper prints as well, under the name `metric` in
    paper_results.csv; `second` is shown in a second table. If `on_arms`, there is a table for each operating point (see
    cwpo.config.update_sizes); if not, there is one table of all runs.
    """

    frame: Callable[[Results, Sequence[str]], pd.DataFrame]
    cell: Callable[[Results, Sequence[pd.DataFrame]], dict[str, Any]]
    compare: Callable[[Results, pd.DataFrame, pd.DataFrame, Sequence[str]], dict[str, Any]]
    same: tuple[str, ...]
    main: Number
    second: Number
    differences: tuple[Number, ...]
    metric: str
    what: str
    cells_rule: str
    differences_rule: str
    averages: bool = False
    on_arms: bool = True


def annotator_outcome(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Returns accuracies (%), with intervals, and mean training seconds of a cell's annotators; {} if none ran."""
    (rows,) = map(one_per_seed, cells)
    if not len(rows):
        return {}
    cell: dict[str, Any] = {}
    for name in ("accuracy_human", "accuracy_gold"):
        if rows[name].isna().any():
            continue
        shares, sizes = rows[name].astype(float).tolist(), rows["n_eval"].astype(int).tolist()
        cell |= named_interval(name, proportion_interval(shares, sizes), 100)
    return cell | {
        "train_seconds": float(rows["train_seconds"].mean()),
        "n_train": int(rows["n_train"].iloc[0]),
        "seeds": len(rows),
        "prompts": int(rows["n_eval"].sum()),
    }


def compare_annotators(results: Results, a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> dict[str, Any]:
    """Returns the accuracies of annotators `a` minus those of annotators `b`, in percentage points; {} if none match.

    Annotators match if they have equal values in the columns `on`. The differences are averaged over each seed's cells
    (see pairs_by_seed); the intervals resample the seeds.
    """
    pairs = pairs_by_seed(a, b, on)
    of = pd.concat([a, b]).drop_duplicates("run").set_index("run")
    cell: dict[str, Any] = {}
    for column, name in (("accuracy_human", "difference"), ("accuracy_gold", "gold_difference")):
        value = of[column].astype(float)
        gap = [float(np.mean([100 * (value[x] - value[y]) for x, y in of_seed])) for of_seed in pairs]
        if not gap or np.isnan(gap).any():
            continue
        cell |= named_interval(name, bootstrap_interval([[mean] for mean in gap]))
        if name == "difference":
            cell["by_seed"] = "; ".join(f"{mean:.1f}" for mean in gap)
    if not cell:
        return {}
    prompts = sum(int(of["n_eval"][x]) for of_seed in pairs for x, _ in of_seed)
    return cell | {"seeds": len(pairs), "cells": len(pairs[0]), "prompts": prompts}


ARMS = Kind(
    frame=lambda results, experiments: results.of(*experiments),
    cell=outcome,
    compare=compare,
    same=("data", "weak", "strong", "objective", "seed"),
    main=Number("gra", "GRA %", 1),
    second=Number(
        "reward", "Mean gold reward of the same models", 2, ("reward_sft", "its SFT model"), "gold reward (SFT)"
    ),
    differences=(
        Number("difference", "gold reward", 3),
        Number("gra_difference", "GRA, points", 1),
        Number("win_rate", "win rate %", 1),
    ),
    metric="gra",
    what="prompts",
    cells_rule=(
        "GRA: share of test prompts on which the aligned model's gold reward is above its own SFT model's; mean and 95 % bootstrap "
        "interval over seeds and the prompts of each"
    ),
    differences_rule=(
        f"Difference of mean gold rewards, of GRA, and win rate (ties half) of the aligned models. {RULE}"
    ),
    averages=True,
)
ANNOTATORS = Kind(
    frame=lambda results, experiments: results.annotators_of(experiments[0]),
    cell=annotator_outcome,
    compare=compare_annotators,
    same=("data", "weak", "human_fraction", "seed"),
    main=Number("accuracy_human", "accuracy vs human labels %", 1),
    second=Number(
        "accuracy_gold",
        "Accuracy against gold of the same annotators, %, and seconds of their training",
        1,
        ("train_seconds", "seconds"),
        "vs gold (seconds)",
    ),
    differences=(Number("difference", "vs human labels, points", 1), Number("gold_difference", "vs gold, points", 1)),
    metric="annotator_accuracy_vs_human",
    what="test pairs",
    cells_rule=("Accuracy on held-out pairs; mean and 95 % bootstrap interval over seeds and the pairs of each"),
    differences_rule=(
        "Differences are averaged over the cells within each seed; the interval resamples the seeds, whose values stand beside it."
    ),
    on_arms=False,
)
