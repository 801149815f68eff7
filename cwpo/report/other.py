"""The update size's tuning, and a plain summary of experiments that have no page of their own."""

from __future__ import annotations

import pandas as pd

from cwpo.report.cells import counts, interval, markdown, outcome
from cwpo.report.collect import DATA_NAMES, FAMILIES, METHOD_NAMES, Results
from cwpo.report.page import Page

OWN_PAGE = ("table1", "figure2", "tuning")
ALWAYS = "data objective method".split()
QUALITY = ("label_accuracy_gold", "annotator_accuracy_human")
IF_IT_VARIES = "weak strong annotator weighting keep_fraction human_fraction learning_rate".split()


def tuning(results: Results) -> list[Page]:
    """Mean gold reward of the Human arm over the learning rate, on development seeds."""
    runs = results.of("tuning").merge(results.details, on="run_key")
    if not len(runs):
        return []
    cells, lines = [], []
    for rate in sorted(runs["learning_rate"].unique()):
        at_rate = runs[runs["learning_rate"] == rate]
        cell = {"learning_rate": rate, "family": "all", **outcome(results, at_rate)}
        cells.append(cell)
        line = [f"{rate:g}", interval(cell, "reward", 3), interval(cell, "gra")]
        for family in sorted(set(runs["family"])):
            part = {
                "learning_rate": rate,
                "family": family,
                **outcome(results, at_rate[at_rate["family"] == family]),
            }
            cells.append(part)
            line.append(interval(part, "reward", 3))
        lines.append(line)
    best = max((c for c in cells if c["family"] == "all"), key=lambda c: c["reward"])
    seeds = ", ".join(map(str, sorted(set(runs["seed"]))))
    families = [FAMILIES.get(f, f) for f in sorted(set(runs["family"]))]
    text = (
        f"The update size of preference optimisation is the one that is best for the **Human** arm's own mean gold reward, on "
        f"development seeds ({seeds}) that no table uses: learning rate **{best['learning_rate']:g}**. Whatever weak labels "
        f"gain then is not our tuning. {len(runs)} runs.\n\n"
        + markdown(["learning rate", "gold reward", "GRA %", *(f"gold reward, {f}" for f in families)], lines)
    )
    return [
        Page("tuning", "Update size, chosen for the Human arm", text, pd.DataFrame(cells), runs["git_commit"])
    ]


def summaries(results: Results) -> list[Page]:
    """One page for every other experiment in runs.csv: each arm's means over its seeds.

    What varies among the arms has a column. Runs of one seed that differ in nothing the result files say stand on lines
    of their own, named by their run_key, so that no mean is over different settings.
    """
    pages = []
    for name in sorted(set(results.runs["experiment"]) - set(OWN_PAGE)):
        runs = results.of(name).merge(results.details[["run_key", "learning_rate"]], on="run_key", how="left")
        arm_columns = ALWAYS + IF_IT_VARIES
        repeated = runs.groupby([*arm_columns, "seed"], dropna=False)["run_key"].transform("size") > 1
        runs["run"] = runs["run_key"].where(repeated)
        varying = [column for column in [*IF_IT_VARIES, "run"] if len(runs[column].dropna().unique()) > 1]
        cells, lines = [], []
        for values, rows in runs.groupby([*arm_columns, "run"], dropna=False, sort=True):
            arm = dict(zip([*arm_columns, "run"], values, strict=True))
            quality = {key: rows[key].mean() for key in QUALITY}
            cell = {**arm, **outcome(results, rows), **quality}
            cells.append(cell)
            label = (DATA_NAMES.get(arm["data"], arm["data"]), arm["objective"])
            lines.append(
                [
                    ", ".join([*label, METHOD_NAMES.get(arm["method"], arm["method"])]),
                    *(_setting(arm[column]) for column in varying),
                    f"{rows['n_train'].mean():,.0f}",
                    interval(cell, "gra"),
                    f"{cell['tie_rate']:.1f}",
                    interval(cell, "reward", 3),
                    f"{cell['reward_sft']:.3f}",
                    *("–" if pd.isna(value) else f"{100 * value:.1f}" for value in quality.values()),
                ]
            )
        models = ", ".join(sorted({f"{w} → {s}" for w, s in zip(runs["weak"], runs["strong"], strict=True)}))
        measures = "pairs|GRA %|ties %|gold reward|its SFT|labels vs gold %|annotator vs human %".split("|")
        header = ["data, objective, arm", *(column.replace("_", " ") for column in varying), *measures]
        text = (
            f"{models}. Mean and 95 % bootstrap interval over seeds and prompts; {counts(cells, runs['seed'])}.\n\n"
            + markdown(header, lines)
        )
        pages.append(Page(name, f"Runs {name}", text, pd.DataFrame(cells), runs["git_commit"], own=True))
    return pages


def _setting(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
