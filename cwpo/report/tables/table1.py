"""Table 1 and the tables that repeat its grid: Table 17 with another judge, Table 20 on subsets of the test prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.tables.arms import ALL_ARMS, OPT_LARGE, QWEN_LARGE, USUAL
from cwpo.report.tables.cells import outcome
from cwpo.report.tables.kinds import ARMS, Kind, Number
from cwpo.report.tables.spec import OBJECTIVES, Item, Spec, data, fixed, models
from cwpo.statistics import subset_spread

SUBSETS = 3  # parts of the test prompts in Table 20


def grid_of_table1(name: str, title: str, about: str, kind: Kind = ARMS, experiments: tuple[str, ...] = ()) -> Spec:
    """Returns a spec laid out as Table 1: a row per data set and objective, a section per pair of models."""
    objectives = (Item(title, {"objective": key}, {"objective": key}) for key, title in OBJECTIVES.items())
    return Spec(
        name,
        title,
        about,
        kind=kind,
        experiments=experiments,
        columns=ALL_ARMS,
        rows=(data("hh_rlhf", "tldr", "ufb"), fixed(*objectives)),
        sections=(models(OPT_LARGE, QWEN_LARGE),),
        contrasts=USUAL,
        split="objective",
    )


def over_subsets(results: Results, cells: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Returns outcome(results, cells) with two more keys, `subset_mean` and `subset_mean_std`.

    These are mean and standard deviation of GRA (%) over SUBSETS parts of the first seed's test prompts; they are left
    out if there are fewer prompts than parts.
    """
    cell = outcome(results, cells)
    if not cell:
        return {}
    run = results.rewards[cells[0].sort_values("seed")["run"].iloc[0]]
    wins = run.reward > run.reward_sft
    if len(wins) < SUBSETS:
        return cell
    mean, spread = subset_spread(wins, SUBSETS)
    return {"subset_mean": 100 * mean, "subset_mean_std": 100 * spread, **cell}


TABLE1 = grid_of_table1(
    "table1",
    "Table 1: three objectives, three label sources",
    "Human labels, a weak policy's labels (WS-DPO), and a Bradley–Terry model's labels weighted by its confidence (CW-PO), under three "
    "objectives.",
)
TABLE17 = grid_of_table1(
    "table17",
    "Table 17: another judge",
    "The grid of Table 1 under a judge that compares two responses: at toy scale a simulated reader whose choices are those of "
    "sigmoid(difference of exact rewards / temperature), in the paper GPT-4.",
    kind=replace(
        ARMS,
        main=Number("gra", "win rate over its SFT model, %", 1),
        second=replace(ARMS.second, title="Mean score by the judge of the same models", short="score (SFT)"),
        metric="win_rate_gpt4",
        cells_rule="Win rate: share of test prompts on which the judge prefers the aligned model's response to its own SFT "
        "model's; mean and 95 % bootstrap interval over seeds and the prompts of each",
    ),
)
TABLE20 = grid_of_table1(
    "table20",
    "Table 20: spread over test subsets",
    f"The grid of Table 1. As in the paper: GRA on {SUBSETS} disjoint parts of the test prompts (cut in the order of their ids, which "
    "means nothing) of one training run, that of the first seed, as mean ± standard deviation (n − 1). It shows how much prompts "
    "vary and nothing of how much training runs do: compare it with the interval over seeds, from the runs of Table 1.",
    kind=replace(
        ARMS,
        cell=over_subsets,
        averages=False,
        main=Number("subset_mean", "GRA %", 1),
        second=Number("gra", "GRA % over seeds of the same arms", 1, ("reward", "gold reward"), "over seeds (reward)"),
    ),
    experiments=("table1", "table20"),
)
GRIDS = (TABLE1, TABLE17, TABLE20)
