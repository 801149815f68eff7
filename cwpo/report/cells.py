"""What stands in a cell: a mean with its interval, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.collect import Results
from cwpo.results import ResultsError
from cwpo.statistics import bootstrap_interval, paired_difference

NOT_RUN = "not run"
RESAMPLES = 1000


def outcome(results: Results, rows: pd.DataFrame) -> dict[str, Any]:
    """GRA in percent and mean gold rewards of the arms in `rows` (its seeds), with intervals and counts; {} if none ran."""
    if not len(rows):
        return {}
    gra = bootstrap_interval(results.wins(rows), resamples=RESAMPLES)
    reward = bootstrap_interval(results.gold(rows), resamples=RESAMPLES)
    return {
        "gra": 100 * gra.mean,
        "gra_low": 100 * gra.low,
        "gra_high": 100 * gra.high,
        "tie_rate": 100 * float(rows["tie_rate"].mean()),
        "reward": reward.mean,
        "reward_low": reward.low,
        "reward_high": reward.high,
        "reward_sft": float(rows["reward_sft_mean"].mean()),
        "seeds": len(rows),
        "prompts": int(rows["n_eval"].sum()),
    }


def compare(results: Results, a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> dict[str, Any]:
    """Arm a against arm b on the same prompts: gold-reward difference and win rate, over the rows that agree in `on`.

    The intervals resample these runs (each data set, objective and seed is one), then the prompts of each. `by_seed` has
    the mean difference of every seed, in the order of seeds. Raises ResultsError where the prompts are not the same.
    """
    pairs = a.merge(b, on=list(on), suffixes=("", "_b"))
    if not len(pairs):
        return {}
    first = results.gold(pairs)
    second = [results.rewards[key].reward for key in pairs["run_key_b"]]
    for key, other in zip(pairs["run_key"], pairs["run_key_b"]):
        if results.rewards[key].prompts != results.rewards[other].prompts:
            raise ResultsError(
                f"runs {key} and {other} answered different prompts, so they cannot be compared pair by pair"
            )
    by_run = pd.Series([float(np.mean(x - y)) for x, y in zip(first, second)], index=pairs["seed"])
    difference = paired_difference(first, second, resamples=RESAMPLES)
    wins = bootstrap_interval(
        [(x > y) + (x == y) / 2 for x, y in zip(first, second, strict=True)], resamples=RESAMPLES
    )
    return {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "by_seed": "; ".join(f"{mean:.3f}" for mean in by_run.groupby(level=0).mean()),
        "win_rate": 100 * wins.mean,
        "win_low": 100 * wins.low,
        "win_high": 100 * wins.high,
        "runs": len(pairs),
        "prompts": difference.n_prompts,
    }


def interval(cell: dict[str, Any], name: str, digits: int = 1) -> str:
    """`61.3 [60.1, 62.4]`, or `not run`."""
    if name not in cell:
        return NOT_RUN
    low, high = (cell[f"{name.split('_')[0]}_{side}"] for side in ("low", "high"))
    return f"{cell[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def published(value: float | None) -> str:
    """The paper's number, or a dash where it has none."""
    return "–" if value is None else f"{value:.1f}"


def counts(cells: Sequence[dict[str, Any]], numbers: Iterable[int]) -> str:
    """`3 seeds (0, 1, 2) and 3,000 prompts per cell`, a range where cells differ; cells that have not run do not count."""
    ran = [cell for cell in cells if pd.notna(cell.get("gra"))]
    if not ran:
        return NOT_RUN
    seeds, prompts = (sorted({int(c[name]) for c in ran}) for name in ("seeds", "prompts"))

    which = ", ".join(str(number) for number in sorted(set(numbers)))
    word = "seed" if seeds == [1] else "seeds"
    return f"{span(seeds)} {word} ({which}) and {span(prompts)} prompts (all seeds together) per cell"


def span(values: Sequence[int]) -> str:
    """`3,000`, or `1,000 to 3,000` of sorted values that differ."""
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; every column but the first is right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
