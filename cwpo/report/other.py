"""The update size's tuning, and a plain summary of experiments that have no page of their own."""

from __future__ import annotations

import pandas as pd

from cwpo.report.cells import counts, interval, markdown, outcome
from cwpo.report.collect import FAMILIES, METHOD_NAMES, Results
from cwpo.report.page import Page

OWN_PAGE = ("table1", "figure2", "tuning")
ARM = "data weak strong method objective weighting keep_fraction human_fraction".split()


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
    """One page for every other experiment in runs.csv: each arm's means over its seeds."""
    pages = []
    for name in sorted(set(results.runs["experiment"]) - set(OWN_PAGE)):
        runs = results.of(name)
        cells, lines = [], []
        for values, rows in runs.groupby(ARM, dropna=False, sort=True):
            arm = dict(zip(ARM, values, strict=True))
            cell = {
                **arm,
                **outcome(results, rows),
                "label_accuracy_gold": rows["label_accuracy_gold"].mean(),
            }
            cells.append(cell)
            kept = f" {100 * arm['keep_fraction']:g} %" if arm["method"] == "filter" else ""
            lines.append(
                [
                    f"{arm['data']}, {arm['objective']}, {METHOD_NAMES.get(arm['method'], arm['method'])}{kept}",
                    f"{rows['n_train'].mean():,.0f}",
                    interval(cell, "gra"),
                    f"{cell['tie_rate']:.1f}",
                    interval(cell, "reward", 3),
                    f"{cell['reward_sft']:.3f}",
                    f"{100 * cell['label_accuracy_gold']:.1f}",
                    f"{100 * rows['annotator_accuracy_human'].mean():.1f}"
                    if rows["annotator_accuracy_human"].notna().any()
                    else "–",
                ]
            )
        models = ", ".join(sorted({f"{w} → {s}" for w, s in zip(runs["weak"], runs["strong"], strict=True)}))
        text = (
            f"{models}. Mean and 95 % bootstrap interval over seeds and prompts; {counts(cells)}.\n\n"
            + markdown(
                "data, objective, arm|pairs|GRA %|ties %|gold reward|its SFT|labels vs gold %|annotator vs human %".split(
                    "|"
                ),
                lines,
            )
        )
        pages.append(Page(name, f"Runs {name}", text, pd.DataFrame(cells), runs["git_commit"], own=True))
    return pages
