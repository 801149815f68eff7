"""Ranks the arms of a sweep by gold reward: a row per arm, a column per axis (a setting that differs between arms)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.tables.cells import compare, counts, interval, outcome
from cwpo.report.tables.page import Page

Cell = dict[str, Any]
AXES = (
    "data weak strong annotator method objective weighting keep_fraction threshold human_fraction learning_rate".split()
)
# Other settings, in details.csv: they are axes too where arms with equal values of AXES differ in them.
DETAILS = "data_pairs label_flip unlabeled_fraction own_share poison_fraction sft_labels equal_steps scoring".split()
QUALITY = {"label_accuracy_gold": "labels vs gold %", "annotator_accuracy_human": "annotator vs human %"}
LUCK = (
    "Arms of one seed answer the same prompts, so arms can differ although their intervals overlap: against=<method> adds paired "
    "differences. The best of many arms looks better than it is, because luck helped to choose it: run it again with other seeds."
)
SEEDS = (
    "Runs of different seeds count as one arm if they agree in all settings that runs.csv and details.csv hold: give runs that "
    "differ in another key another name=."
)


def ranked(results: Results, rows: pd.DataFrame, axes: Sequence[str]) -> list[Cell]:
    """Returns one cell for each combination of values of the columns `axes`, over all its seeds; highest reward first.

    A cell has the numbers of `outcome`, the values of the axes, and the means of `n_train` and of the columns QUALITY.
    If `rows` has a column `reference` (run key of the run to subtract), cells also have the numbers of `compare`.
    """
    groups = rows.groupby(list(axes), dropna=False, sort=False) if axes else [((), rows)]
    cells = []
    for values, group in groups:
        cell = {**dict(zip(axes, values)), **outcome(results, [group])}
        cell |= {name: group[name].astype(float).mean() for name in ("n_train", *QUALITY)}
        if "reference" in rows:
            others = group[["seed", "reference"]].merge(
                rows.drop(columns=["reference", "seed"]), left_on="reference", right_on="run_key"
            )
            cell = cell | {k: v for k, v in compare(results, group, others, ["scale", "seed"]).items() if k not in cell}
        cells.append(cell)
    return sorted(cells, key=lambda cell: -cell["reward"])


def texts(cells: Sequence[Cell], axes: Sequence[str], against: str = "") -> pd.DataFrame:
    """Returns `cells` as a table of text, a row each. If `against` names a method, one more column gives by how much
    the gold reward of each arm differs from that method's."""
    lines = []
    for rank, cell in enumerate(cells, 1):
        line = {"rank": str(rank), "gold reward": interval(cell, "reward", 3)}
        if against:
            line[f"minus {against}"] = interval(cell, "difference", 3) if "difference" in cell else "–"
        line |= {axis: setting(cell[axis]) for axis in axes} | {"its SFT model": f"{cell['reward_sft']:.3f}"}
        line |= {"GRA %": interval(cell, "gra"), "ties %": f"{cell['tie_rate']:.1f}"}
        line |= {"pairs": f"{cell['n_train']:,.0f}"}
        line |= {title: "–" if pd.isna(cell[name]) else f"{100 * cell[name]:.1f}" for name, title in QUALITY.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def page(
    name: str, rows: pd.DataFrame, axes: Sequence[str], cells: Sequence[Cell], shown: pd.DataFrame, note: str = LUCK
) -> Page:
    """Returns a page: `shown` as Markdown, `cells` as CSV, the settings that are equal in all `rows`, and `note`."""
    same = [(axis, rows[axis].iloc[0]) for axis in AXES if axis in rows and not varies(rows[axis])]
    common = ", ".join(f"{axis.replace('_', ' ')} {setting(value)}" for axis, value in same if pd.notna(value))
    text = (
        f"{len(cells)} arms, ranked by mean gold reward; mean and 95 % bootstrap interval over seeds and prompts, "
        f"{counts(cells, rows['seed'])}. In all arms: {common or 'nothing is the same'}. {note}\n\n"
        + markdown_table(list(shown), shown.to_numpy().tolist(), left=list(shown).index("its SFT model"))
    )
    return Page(name, f"Sweep {name}", text, pd.DataFrame(cells), rows["git_commit"], own=True, settings=axes)


def summaries(results: Results, covered: Container[str]) -> list[Page]:
    """Returns a page with a ranking for every experiment in runs.csv whose name is not in `covered`."""
    return [_summary(results, name) for name in sorted(set(results.runs["experiment"])) if name not in covered]


def _summary(results: Results, name: str) -> Page:
    """Ranks an experiment's arms. Axes are the columns of AXES that vary, and those of DETAILS that tell arms apart.

    If several runs with the same seed have equal values on all axes, they differ in a setting that is no axis. Each of
    them gets a line of its own with its run_key, so that no mean mixes different settings.
    """
    rows = results.of(name)
    rows = rows.assign(keep_fraction=rows["keep_fraction"].where(rows["threshold"].isna()))  # else it differs by seed
    within = rows.groupby(AXES, dropna=False)[DETAILS].nunique(dropna=False).max()
    settings = [*AXES, *within.index[within > 1]]
    repeated = rows.groupby([*settings, "seed"], dropna=False)["run_key"].transform("size") > 1
    rows = rows.assign(run_key=rows["run_key"].where(repeated))
    axes = [axis for axis in [*settings, "run_key"] if varies(rows[axis])]
    cells = ranked(results, rows, axes)
    return page(name, rows, axes, cells, texts(cells, axes), f"{LUCK} {SEEDS}")


def varies(column: pd.Series) -> bool:
    """Whether a column has more than one distinct value, where "missing" is a value too."""
    return len(column.drop_duplicates()) > 1


def setting(value: object) -> str:
    """Formats an arm's value of an axis; a dash if it is missing, as where the arm does not use that setting."""
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
