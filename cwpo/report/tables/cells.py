"""Computes the cells of tables, means with their intervals, and formats them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.inputs import RESAMPLES, Results, one_per_seed
from cwpo.results import RunRewards
from cwpo.statistics import Floats, Interval, clustered_interval, interval_of, mean_of_cells

NOT_RUN = "not run"
FEW_SEEDS = 5  # with at most this many seeds, the value of every seed is shown
RULE = (
    "A difference is taken on the same prompts, then averaged over the cells (data sets, models, objectives, settings) within each "
    "seed; its interval resamples the seeds, all cells of a drawn seed together, and then the prompts of each cell. With three "
    "seeds such an interval is optimistic, so the value of every seed stands beside it."
)


def outcome(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Returns GRA and tie rate (%) and mean gold rewards over all seeds and cells, and numbers of seeds and prompts.

    Each of `cells` is a frame of runs, one per seed. Returns {} unless all cells have the same seeds, at least one. GRA
    and `reward` have intervals, which resample seeds with all their cells, and then the prompts of each cell.
    """
    ran = [one_per_seed(rows).sort_values("seed") for rows in cells]
    seeds = {tuple(rows["seed"]) for rows in ran}
    if len(seeds) != 1 or not seeds.pop():
        return {}
    keys = list(zip(*(rows["run"] for rows in ran)))

    def whole(which: int) -> Interval:
        centres = [float(np.mean([results.rewards[key].means[which] for key in of_seed])) for of_seed in keys]
        drawn = [[results.rewards.resampled[key][which] for key in of_seed] for of_seed in keys]
        return interval_of(centres, mean_of_cells(drawn) if len(ran) > 1 else np.concatenate(drawn))

    return {
        **named_interval("gra", whole(0), 100),
        "tie_rate": 100 * float(np.mean([rows["tie_rate"].mean() for rows in ran])),
        **named_interval("reward", whole(1)),
        "reward_sft": float(np.mean([rows["reward_sft_mean"].mean() for rows in ran])),
        "seeds": len(ran[0]),
        "prompts": int(sum(rows["n_eval"].sum() for rows in ran)),
    }


def compare(
    results: Results,
    a: pd.DataFrame,
    b: pd.DataFrame,
    on: Sequence[str],
    spread: Callable[[Sequence[float], Floats], Interval] = interval_of,
) -> dict[str, Any]:
    """Compares arm `a` with arm `b` on pairs of runs with equal values of the columns `on`; {} if there is no pair.

    Returns the mean gold reward of `a` minus that of `b` as `difference`, the same for GRA in percentage points, and
    the percentage of prompts on which `a` has the higher reward (ties count half) as `win_rate`, with intervals (see
    RULE). `on` includes "seed"; its other columns define a cell; all seeds use the same cells. `spread` computes the
    interval of a difference from its means per seed and its resampled means. If rewards are relative
    (RunRewards.relative), only GRA is compared. Raises ResultsError if an arm has two runs in one cell and seed, or if
    the two runs of a pair answered different prompts.
    """
    pairs = pairs_by_seed(a, b, on)
    if not pairs:
        return {}

    def difference(which: int, gap: Callable[[RunRewards, RunRewards], float]) -> tuple[list[float], Interval]:
        """Returns a − b of each seed, the mean of `gap` over its cells, and the mean over seeds with its interval.

        `which` is the place in RunRewards.means of the number that `gap` compares: 0 is GRA, 1 is the gold reward.
        """
        centres = [float(np.mean([gap(runs[x], runs[y]) for x, y in of_seed])) for of_seed in pairs]
        drawn = results.rewards.resampled
        gaps = [[drawn[x][which] - drawn[y][which] for x, y in of_seed] for of_seed in pairs]
        return centres, spread(centres, mean_of_cells(gaps))

    runs = {key: results.rewards[key] for of_seed in pairs for both in of_seed for key in both}
    gra, accuracy = difference(0, lambda x, y: x.means[0] - y.means[0])
    rewards, wins = {}, {}
    if not results.relative(*runs):
        shares = [[results.wins_over(*keys) for keys in of_seed] for of_seed in pairs]  # refuses different prompts
        by_seed, gold = difference(1, lambda x, y: float(np.mean(x.reward - y.reward)))
        rewards = {**named_interval("difference", gold), "by_seed": "; ".join(f"{value:.3f}" for value in by_seed)}
        wins = named_interval("win_rate", clustered_interval(shares, resamples=RESAMPLES), 100)
    return {
        **rewards,
        **named_interval("gra_difference", accuracy, 100),
        "gra_by_seed": "; ".join(f"{100 * value:.1f}" for value in gra),
        **wins,
        "seeds": len(pairs),
        "cells": len(pairs[0]),
        "prompts": sum(len(runs[key].reward) for of_seed in pairs for key, _ in of_seed),
    }


def pairs_by_seed(a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Returns for each seed a list of pairs (run of `a`, run of `b`) with equal values in the columns `on`.

    A cell is the values of `on` except the seed. Each list has a pair per cell, and all seeds have the same cells. Uses
    the cells that have every seed. If there are none, uses all cells, with the seeds that all of them have; [] if there
    is no such seed. Raises ResultsError if an arm has two runs in one cell and seed.
    """
    columns = [*(name for name in on if name != "seed"), "seed"]
    ours, theirs = _runs_at(a, columns), _runs_at(b, columns)  # not merge: tables compare thousands of small frames
    shared = sorted(ours.keys() & theirs.keys(), key=str)
    for arm, runs in ((a, ours), (b, theirs)):
        if several := [run for at in shared if len(runs[at]) > 1 for run in runs[at]]:
            one_per_seed(arm[arm["run"].isin(several)])
    cells: dict[tuple[Any, ...], dict[int, tuple[str, str]]] = {}
    for at in shared:
        cells.setdefault(at[:-1], {})[at[-1]] = (ours[at][0], theirs[at][0])
    seeds = sorted({at[-1] for at in shared})
    whole = [of_seed for of_seed in cells.values() if len(of_seed) == len(seeds)]
    if not whole:
        whole = list(cells.values())
        seeds = [seed for seed in seeds if all(seed in of_seed for of_seed in whole)]
    return [[of_seed[seed] for of_seed in whole] for seed in seeds]


def _runs_at(arm: pd.DataFrame, columns: list[str]) -> dict[tuple[Any, ...], list[str]]:
    """Maps each combination of values of `columns`, None where blank, to the runs that have it."""
    runs: dict[tuple[Any, ...], list[str]] = {}
    for run, values in zip(arm["run"], zip(*(arm[name] for name in columns))):
        runs.setdefault(tuple(None if pd.isna(value) else value for value in values), []).append(run)
    return runs


def named_interval(name: str, values: Interval, factor: float = 1) -> dict[str, float]:
    """Returns mean, low and high, times `factor`, under the keys `name`, `name`_low and `name`_high."""
    ends = {"": values.mean, "_low": values.low, "_high": values.high}
    return {f"{name}{end}": factor * value for end, value in ends.items()}


def excludes_zero(cell: Mapping[str, Any] | pd.Series, name: str) -> bool:
    """Whether cell[name] exists and its interval does not contain 0."""
    return name in cell and bool(cell[f"{name}_low"] > 0 or cell[f"{name}_high"] < 0)


def interval(cell: dict[str, Any], name: str, digits: int = 1) -> str:
    """Formats cell[name] with its interval, `61.3 [60.1, 62.4]`, or with its standard deviation, `61.3 ± 0.5`.

    Returns `not run` if it is missing.
    """
    if pd.isna(cell.get(name)):
        return NOT_RUN
    if f"{name}_std" in cell:
        return f"{cell[name]:.{digits}f} ± {cell[f'{name}_std']:.{digits}f}"
    low, high = cell[f"{name}_low"], cell[f"{name}_high"]
    return f"{cell[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def plain(cell: dict[str, Any], name: str, digits: int = 2) -> str:
    """Formats cell[name] without its interval, e.g. as `1.41`; returns `not run` if it is missing."""
    return NOT_RUN if pd.isna(cell.get(name)) else f"{cell[name]:.{digits}f}"


def by_seed(values: str, seeds: int) -> str:
    """Returns `values`, a number per seed as in `0.3; 0.1`; for more than FEW_SEEDS seeds only `0.1 to 0.3`."""
    if seeds <= FEW_SEEDS:
        return values
    numbers = sorted(values.split("; "), key=float)
    return f"{numbers[0]} to {numbers[-1]}"


def published(value: float | None, spread: float | None = None, digits: int = 1) -> str:
    """Formats the paper's number, with its standard deviation `spread` if there is one; a dash if it is missing."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.{digits}f}")


def counts(cells: Sequence[dict[str, Any]], numbers: Iterable[int], what: str = "prompts") -> str:
    """Returns e.g. `3 seeds (0–2) and 3,000 prompts (all seeds together) per cell`; `numbers` are the seeds."""
    ran = [cell for cell in cells if pd.notna(cell.get("seeds"))]
    if not ran:
        return NOT_RUN
    seeds, prompts = (sorted({int(c[name]) for c in ran}) for name in ("seeds", "prompts"))
    which = ranges(sorted(set(numbers)))
    word = "seed" if seeds == [1] else "seeds"
    return f"{span(seeds)} {word} ({which}) and {span(prompts)} {what} (all seeds together) per cell"


def ranges(numbers: Sequence[int]) -> str:
    """Formats sorted numbers and joins consecutive ones, e.g. 0, 1, 2, 1000 as `0–2, 1000`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def span(values: Sequence[int]) -> str:
    """Formats one value as `3,000`, several sorted values as `1,000 to 3,000`."""
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
