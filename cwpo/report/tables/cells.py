"""Cells of tables: means with their intervals, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def outcome(results: Results, rows: pd.DataFrame) -> dict[str, Any]:
    """GRA in percent and mean gold rewards of the runs in `rows`, one per seed, with intervals and counts; {} if none ran."""
    if not len(rows):
        return {}
    rows = one_per_seed(rows)
    keys = list(rows["run_key"])
    resampled = [results.rewards.resampled[key] for key in keys]
    gra = interval_of([float(wins.mean()) for wins in results.wins(rows)], [wins for wins, _ in resampled])
    reward = interval_of([float(gold.mean()) for gold in results.gold(rows)], [gold for _, gold in resampled])
    return {
        **named_interval("gra", gra, 100),
        "tie_rate": 100 * float(rows["tie_rate"].mean()),
        **named_interval("reward", reward),
        "reward_sft": float(rows["reward_sft_mean"].mean()),
        "seeds": len(rows),
        "prompts": int(rows["n_eval"].sum()),
    }


def average(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """As `outcome`, of the mean over cells within each seed, one frame of runs per cell; {} unless all have the same seeds.

    The intervals resample the seeds, all cells of a drawn seed together, and then the prompts of each cell.
    """
    ran = [one_per_seed(rows).sort_values("seed") for rows in cells]
    seeds = {tuple(rows["seed"]) for rows in ran}
    if len(seeds) != 1 or not seeds.pop():
        return {}
    named: dict[str, Any] = {}
    of_cells = [(results.wins(rows), results.gold(rows), list(rows["run_key"])) for rows in ran]
    for name, which, factor in (("gra", 0, 100), ("reward", 1, 1)):
        by_seed = list(zip(*(cell[which] for cell in of_cells)))
        keys = list(zip(*(cell[2] for cell in of_cells)))
        centres = [float(np.mean([values.mean() for values in of_seed])) for of_seed in by_seed]
        drawn = mean_of_cells([[results.rewards.resampled[key][which] for key in of_seed] for of_seed in keys])
        named |= named_interval(name, interval_of(centres, drawn), factor)
    return named | {
        "tie_rate": 100 * float(np.mean([rows["tie_rate"].mean() for rows in ran])),
        "reward_sft": float(np.mean([rows["reward_sft_mean"].mean() for rows in ran])),
        "seeds": len(ran[0]),
        "prompts": int(sum(rows["n_eval"].sum() for rows in ran)),
    }


def compare(results: Results, a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> dict[str, Any]:
    """Arm a less arm b on the same prompts, over the runs that agree in `on`, which holds "seed"; {} if there are none.

    Difference of mean gold rewards, of GRA in points, and the win rate, ties half, averaged over the cells within each seed;
    the seed is what the intervals resample (see RULE). Only cells that every seed has count, so that all seeds average the
    same. Raises ResultsError where the prompts are not the same or an arm has two runs in one cell and seed.
    """
    pairs = _balanced(_paired(a, b, on))
    if not pairs:
        return {}
    gold: list[list[Floats]] = []  # per seed and cell, resampled differences of mean gold rewards
    gra: list[list[Floats]] = []
    wins: list[list[Floats]] = []  # per seed and cell, wins prompt by prompt
    gold_centres, gra_centres = [], []  # per seed, the difference averaged over cells
    for keys in pairs:
        runs = [(results.rewards[key], results.rewards[other]) for key, other in keys]
        drawn = [(results.rewards.resampled[key], results.rewards.resampled[other]) for key, other in keys]
        wins.append([results.wins_over(key, other) for key, other in keys])
        gra.append([ours[0] - theirs[0] for ours, theirs in drawn])
        gold.append([ours[1] - theirs[1] for ours, theirs in drawn])
        gold_centres.append(float(np.mean([np.mean(a.reward - b.reward) for a, b in runs])))
        gra_centres.append(float(np.mean([_gra(a) - _gra(b) for a, b in runs])))
    difference = interval_of(gold_centres, mean_of_cells(gold))
    accuracy = interval_of(gra_centres, mean_of_cells(gra))
    return {
        **named_interval("difference", difference),
        "by_seed": "; ".join(f"{value:.3f}" for value in gold_centres),
        **named_interval("gra_difference", accuracy, 100),
        "gra_by_seed": "; ".join(f"{100 * value:.1f}" for value in gra_centres),
        **named_interval("win_rate", clustered_interval(wins, resamples=RESAMPLES), 100),
        "seeds": len(gold),
        "cells": len(pairs[0]),
        "prompts": sum(len(values) for cells in wins for values in cells),
    }


def _gra(run: RunRewards) -> float:
    return float(np.mean(run.reward > run.reward_sft))


def _paired(a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> dict[tuple[Any, ...], dict[int, tuple[str, str]]]:
    """By cell (the values of `on` without the seed) and seed, the run keys of both arms."""
    cell = [name for name in on if name != "seed"]
    first, second = (_by_cell(arm, cell) for arm in (a, b))
    pairs: dict[tuple[Any, ...], dict[int, tuple[str, str]]] = {}
    for key in sorted(set(first) & set(second), key=str):
        for arm, runs in ((a, first[key]), (b, second[key])):
            if len(runs) > 1:
                one_per_seed(arm[arm["run_key"].isin(runs)])
        *where, seed = key
        pairs.setdefault(tuple(where), {})[seed] = (first[key][0], second[key][0])
    return pairs


def _by_cell(arm: pd.DataFrame, cell: Sequence[str]) -> dict[tuple[Any, ...], list[str]]:
    """Run keys by cell and seed; blanks are equal to blanks."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for run_key, *key in arm[["run_key", *cell, "seed"]].itertuples(index=False, name=None):
        found.setdefault(tuple(None if pd.isna(part) else part for part in key), []).append(run_key)
    return found


def _balanced(pairs: dict[tuple[Any, ...], dict[int, tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """Per seed, the pairs of the cells that every seed has; if no cell has every seed, those of the seeds that every cell has.

    Without this, a seed's mean would be over other cells than the next one's, and differ for that reason alone.
    """
    seeds = sorted({seed for of_seed in pairs.values() for seed in of_seed})
    whole = [of_seed for of_seed in pairs.values() if len(of_seed) == len(seeds)]
    if not whole:
        whole = list(pairs.values())
        seeds = [seed for seed in seeds if all(seed in of_seed for of_seed in whole)]
    return [[of_seed[seed] for of_seed in whole] for seed in seeds] if whole else []


def named_interval(name: str, values: Interval, factor: float = 1) -> dict[str, float]:
    """Mean, low and high as the columns `name`, `name`_low and `name`_high, times `factor`."""
    ends = {"": values.mean, "_low": values.low, "_high": values.high}
    return {f"{name}{end}": factor * value for end, value in ends.items()}


def excludes_zero(cell: Mapping[str, Any] | pd.Series, name: str) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    return name in cell and bool(cell[f"{name}_low"] > 0 or cell[f"{name}_high"] < 0)


def interval(cell: dict[str, Any], name: str, digits: int = 1) -> str:
    """`61.3 [60.1, 62.4]`, `61.3 ± 0.5` where there is a standard deviation instead, or `not run`."""
    if pd.isna(cell.get(name)):
        return NOT_RUN
    if f"{name}_std" in cell:
        return f"{cell[name]:.{digits}f} ± {cell[f'{name}_std']:.{digits}f}"
    low, high = cell[f"{name}_low"], cell[f"{name}_high"]
    return f"{cell[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def plain(cell: dict[str, Any], name: str, digits: int = 2) -> str:
    """`1.41`, or `not run`."""
    return NOT_RUN if pd.isna(cell.get(name)) else f"{cell[name]:.{digits}f}"


def by_seed(values: str, seeds: int) -> str:
    """`0.1; 0.2; 0.3`; of more than FEW_SEEDS seeds the lowest and the highest."""
    if seeds <= FEW_SEEDS:
        return values
    numbers = sorted(values.split("; "), key=float)
    return f"{numbers[0]} to {numbers[-1]}"


def published(value: float | None, spread: float | None = None, digits: int = 1) -> str:
    """The paper's number, with its standard deviation if the paper prints one; a dash if there is no number."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.{digits}f}")


def counts(cells: Sequence[dict[str, Any]], numbers: Iterable[int], what: str = "prompts") -> str:
    """`3 seeds (0, 1, 2) and 3,000 prompts per cell`, a range where cells differ; cells that have not run do not count."""
    ran = [cell for cell in cells if pd.notna(cell.get("seeds"))]
    if not ran:
        return NOT_RUN
    seeds, prompts = (sorted({int(c[name]) for c in ran}) for name in ("seeds", "prompts"))
    which = ranges(sorted(set(numbers)))
    word = "seed" if seeds == [1] else "seeds"
    return f"{span(seeds)} {word} ({which}) and {span(prompts)} {what} (all seeds together) per cell"


def ranges(numbers: Sequence[int]) -> str:
    """`0–2, 1000` for 0, 1, 2, 1000."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def span(values: Sequence[int]) -> str:
    """`3,000`; for several sorted values `1,000 to 3,000`."""
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
