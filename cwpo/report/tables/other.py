"""The update size's tuning, and a plain summary of experiments that have no page of their own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import DATA_NAMES, METHOD_NAMES
from cwpo.report.tables.cells import NOT_RUN, average, counts, interval, outcome
from cwpo.report.tables.page import Page

ALWAYS = "data objective method".split()
QUALITY = ("label_accuracy_gold", "annotator_accuracy_human")
MEASURES = "pairs|GRA %|ties %|gold reward|its SFT|labels vs gold %|annotator vs human %".split("|")
IF_IT_VARIES = "weak strong annotator weighting keep_fraction human_fraction learning_rate".split()


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


def summaries(results: Results, covered: Container[str]) -> list[Page]:
    """One page for every experiment in runs.csv that is not `covered`: each arm's means over its seeds."""
    names = sorted(set(results.runs["experiment"]))
    return [_summary(results, name) for name in names if name not in covered]


def _summary(results: Results, name: str) -> Page:
    """What varies among the arms has a column.

    Runs of one seed that differ in nothing the result files hold stand on lines of their own, named by their run_key, so that
    no mean is over different settings.
    """
    runs = results.of(name)
    arm_columns = ALWAYS + IF_IT_VARIES
    repeated = runs.groupby([*arm_columns, "seed"], dropna=False)["run_key"].transform("size") > 1
    runs["run"] = runs["run_key"].where(repeated)
    varying = [column for column in [*IF_IT_VARIES, "run"] if len(runs[column].dropna().unique()) > 1]
    cells, lines = [], []
    for values, rows in runs.groupby([*arm_columns, "run"], dropna=False, sort=True):
        arm = dict(zip([*arm_columns, "run"], values, strict=True))
        cell = {**arm, **outcome(results, rows), **{key: rows[key].mean() for key in QUALITY}}
        cells.append(cell)
        lines.append(_line(cell, varying, rows["n_train"].mean()))
    models = ", ".join(sorted({f"{w} → {s}" for w, s in zip(runs["weak"], runs["strong"], strict=True)}))
    header = ["data, objective, arm", *(column.replace("_", " ") for column in varying), *MEASURES]
    text = (
        f"{models}. Mean and 95 % bootstrap interval over seeds and prompts; {counts(cells, runs['seed'])}.\n\n"
        + markdown_table(header, lines)
    )
    return Page(name, f"Runs {name}", text, pd.DataFrame(cells), runs["git_commit"], own=True)


def _line(cell: dict[str, Any], varying: Sequence[str], n_train: float) -> list[str]:
    data, method = (
        DATA_NAMES.get(cell["data"], cell["data"]),
        METHOD_NAMES.get(cell["method"], cell["method"]),
    )
    return [
        f"{data}, {cell['objective']}, {method}",
        *(_setting(cell[column]) for column in varying),
        f"{n_train:,.0f}",
        interval(cell, "gra"),
        f"{cell['tie_rate']:.1f}",
        interval(cell, "reward", 3),
        f"{cell['reward_sft']:.3f}",
        *("–" if pd.isna(cell[key]) else f"{100 * cell[key]:.1f}" for key in QUALITY),
    ]


def _setting(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
