"""What stands in a cell: a mean with its interval, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from cwpo.report.collect import Results
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
    """Arm a against arm b on the same prompts: gold-reward difference and win rate, over the rows that agree in `on`."""
    pairs = a.merge(b, on=list(on), suffixes=("", "_b"))
    if not len(pairs):
        return {}
    first = results.gold(pairs)
    second = [results.rewards[key]["reward"].to_numpy() for key in pairs["run_key_b"]]
    difference = paired_difference(first, second, resamples=RESAMPLES)
    wins = bootstrap_interval(
        [(x > y) + (x == y) / 2 for x, y in zip(first, second, strict=True)], resamples=RESAMPLES
    )
    return {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
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


def counts(cells: Sequence[dict[str, Any]]) -> str:
    """`3 seeds, 3,000 prompts per cell`, a range where cells differ."""
    ran = [cell for cell in cells if cell]
    if not ran:
        return NOT_RUN
    seeds, prompts = sorted({c["seeds"] for c in ran}), sorted({c["prompts"] for c in ran})

    def span(values: list[int]) -> str:
        return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"

    return f"{span(seeds)} seeds and {span(prompts)} prompts (all seeds together) per cell"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; every column but the first is right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
