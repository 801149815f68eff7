"""The tuning of the update size."""

from __future__ import annotations

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.tables.cells import NOT_RUN, average, interval
from cwpo.report.tables.page import Page


def tuning_cells(results: Results) -> pd.DataFrame:
    """One row per learning rate for all models ("all") and for each family, as `outcome` gives it; empty if nothing ran."""
    runs = results.of("tuning")
    cells = []
    for rate, at_rate in runs.groupby("learning_rate", sort=True):
        # Development seeds are cells of their own: each has many pairs of models and data sets.
        for name, rows in [("all", at_rate), *at_rate.groupby("family", sort=True)]:
            parts = [part for _, part in rows.groupby(["data", "weak", "strong"], sort=True)]
            cells.append({"learning_rate": rate, "family": name, **average(results, parts)})
    return pd.DataFrame(cells)


def tuning(results: Results) -> list[Page]:
    """Mean gold reward of the Human arm over the learning rate, on development seeds."""
    cells = tuning_cells(results)
    if not len(cells):
        return []
    runs = results.of("tuning")
    families = sorted(set(cells["family"]) - {"all"})
    lines = []
    for rate, rows in cells.groupby("learning_rate", sort=True):
        of = {row["family"]: row for row in rows.to_dict("records")}
        shown = (interval(of[name], "reward", 3) if name in of else NOT_RUN for name in families)
        lines.append([f"{rate:g}", interval(of["all"], "reward", 3), interval(of["all"], "gra"), *shown])
    of_all = cells[cells["family"] == "all"]
    best = of_all.loc[of_all["reward"].idxmax()]
    seeds = ", ".join(map(str, sorted(set(runs["seed"]))))
    ties = [
        f"{row['learning_rate']:g}"
        for row in of_all.to_dict("records")
        if row["reward_high"] >= best["reward"] and row["learning_rate"] != best["learning_rate"]
    ]
    near = f" Not told apart from it by these seeds: {', '.join(ties)}." if ties else ""
    header = [
        "learning rate",
        "gold reward",
        "GRA %",
        *(f"gold reward, {FAMILIES.get(f, f)}" for f in families),
    ]
    text = (
        f"The update size of preference optimisation is the one that is best for the **Human** arm's own mean gold reward, on "
        f"development seeds ({seeds}) that no table uses: learning rate **{best['learning_rate']:g}**.{near} Whatever weak labels "
        f"gain then is not our tuning. {len(runs)} runs; mean over data sets and models and its 95 % bootstrap interval.\n\n"
        + markdown_table(header, lines)
    )
    return [Page("tuning", "Update size, chosen for the Human arm", text, cells, runs["git_commit"])]
