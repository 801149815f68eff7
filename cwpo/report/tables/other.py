"""A plain summary of experiments that have no page of their own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import DATA_NAMES, METHOD_NAMES
from cwpo.report.tables.cells import counts, interval, outcome
from cwpo.report.tables.page import Page

ALWAYS = "data objective method".split()
QUALITY = ("label_accuracy_gold", "annotator_accuracy_human")
MEASURES = "pairs|GRA %|ties %|gold reward|its SFT|labels vs gold %|annotator vs human %".split("|")
IF_IT_VARIES = "weak strong annotator weighting keep_fraction human_fraction learning_rate".split()


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
