"""Table 20: spread over three disjoint test subsets of one training run, as in the paper, beside our interval over seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.tables.arms import grid_of_table1
from cwpo.report.tables.cells import outcome
from cwpo.report.tables.kinds import ARMS, Number
from cwpo.statistics import subset_spread

SUBSETS = 3


def subsets(results: Results, rows: pd.DataFrame) -> dict[str, Any]:
    """As `outcome`, with mean and standard deviation over the test subsets of the first seed's run, in percent."""
    cell = outcome(results, rows)
    if not cell:
        return {}
    mean, spread = subset_spread(results.wins(rows.sort_values("seed").head(1))[0], SUBSETS)
    return {"subset_mean": 100 * mean, "subset_mean_std": 100 * spread, **cell}


TABLE20 = grid_of_table1(
    "table20",
    "Table 20: spread over test subsets",
    f"The grid of Table 1. As in the paper: GRA on {SUBSETS} disjoint parts of the test prompts (cut in the order of their ids, which "
    "means nothing) of one training run, that of the first seed, as mean ± standard deviation (n − 1). It shows how much prompts "
    "vary and nothing of how much training runs do: compare it with the interval over seeds, from the runs of Table 1.",
    kind=replace(
        ARMS,
        cell=subsets,
        average=None,
        main=Number("subset_mean", "GRA %", 1),
        second=Number("gra", "GRA % over seeds of the same arms", 1, ("reward", "gold reward"), "over seeds (reward)"),
    ),
    experiments=("table1", "table20"),
)
