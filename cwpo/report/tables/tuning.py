"""Tables of the learning rates of the two operating points, `matched` and `own_best`.

The rates were chosen on development seeds that no other table uses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.cells import NOT_RUN, interval, outcome, plain, ranges
from cwpo.report.tables.frontier import methods_of
from cwpo.report.tables.page import Page
from cwpo.report.tables.spec import OBJECTIVES
from cwpo.results import MATCHED, OWN_BEST

SUBSETS_OF_TABLE1 = "table20"
TUNINGS = ("tuning", "headline_tuning")  # with DPO; the first that ran is shown
MORE_TUNINGS = ("tuning_llama", "tuning_online")  # a further family, and further methods, with DPO
OTHER_OBJECTIVES = "tuning_objectives"


def human_target(results: Results) -> float:
    """Returns Human's mean GRA in percent over the paper's tables except Table 20; NaN without the paper's numbers."""
    paper = results.paper
    tables = paper["source"].str.startswith("table") & (paper["source"] != SUBSETS_OF_TABLE1)
    rows = paper[tables & (paper["metric"] == "gra") & (paper["method"] == "human")]
    return float(rows["value"].astype(float).mean())


def tuning_runs(results: Results) -> pd.DataFrame:
    """Returns the tuning runs with DPO: those of the first experiment in TUNINGS that ran, and all of MORE_TUNINGS."""
    return pd.concat([results.of(*TUNINGS), *(results.of(name) for name in MORE_TUNINGS)])


@lru_cache(maxsize=len(OBJECTIVES))
def tuning_cells(results: Results, objective: str = "dpo") -> pd.DataFrame:
    """Returns a row per model family, method and learning rate; empty if none ran.

    A row has the numbers of `outcome` over all data sets and models of the family. Two boolean columns mark the chosen
    rates. `matched`: the rate, one for all arms of a family, at which Human's GRA with DPO is nearest to
    `human_target`; only rates up to the one with Human's highest GRA count. `own_best`: the rate at which the method
    has the highest mean gold reward under `objective`; if several rates have it, the smallest of them.
    """
    runs = tuning_runs(results) if objective == "dpo" else results.of(OTHER_OBJECTIVES)
    runs = runs[runs["objective"] == objective]
    cells = []
    for (name, method, rate), rows in runs.groupby(["family", "method", "learning_rate"], sort=True):
        # A cell is one data set and pair of models, with all its development seeds.
        parts = [part for _, part in rows.groupby(["data", "weak", "strong"], sort=True)]
        unfinished = 100 * rows["truncated_share"].mean()
        where = {"family": name, "method": method, "learning_rate": rate}
        cells.append({**where, **outcome(results, parts), "unfinished": unfinished})
    frame = pd.DataFrame(cells)
    if not len(frame) or "gra" not in frame:
        return pd.DataFrame()
    best = frame.dropna(subset="reward").groupby(["family", "method"])["reward"].idxmax()  # the first of equal ones
    with_dpo = frame if objective == "dpo" else tuning_cells(results)
    families = with_dpo.groupby("family") if len(with_dpo) else ()
    chosen = {name: _matched(rows, human_target(results)) for name, rows in families}
    matched = frame["learning_rate"] == frame["family"].map(chosen)
    return frame.assign(**{MATCHED: matched, OWN_BEST: frame.index.isin(best), "objective": objective})


def _matched(rows: pd.DataFrame, target: float) -> float:
    """Returns a family's learning rate at which Human's GRA is nearest to `target` (%), by the rule of tuning_cells.

    Returns NaN if Human did not run or `target` is NaN.
    """
    human = rows[rows["method"] == "human"].set_index("learning_rate")["gra"].dropna()
    if not len(human):
        return float("nan")
    rising = human[human.index <= human.idxmax()]
    distance = (rising - target).abs()
    return float("nan") if distance.isna().all() else float(distance.idxmin())


def tuning(results: Results) -> list[Page]:
    """Returns up to two pages, for DPO and other objectives: the chosen learning rates, and results at every rate."""
    matched = (
        f"**Matched**: one update size for all arms of a family, the one at which Human's mean GRA with DPO is nearest to the paper's "
        f"mean, {human_target(results):.1f} %, on the rising side of its curve; the Human arm alone chooses it."
    )
    own_best = "**Own best**: each method's update size with the highest mean gold reward{}, in bold."
    others = pd.concat([tuning_cells(results, objective) for objective in OBJECTIVES if objective != "dpo"])
    rules = f"{matched} {own_best.format('')}"
    pages = _page(
        TUNINGS[0], "Update sizes of the operating points", tuning_runs(results), tuning_cells(results), rules
    )
    runs, rules = results.of(OTHER_OBJECTIVES), own_best.format(" under an objective")
    return pages + _page(OTHER_OBJECTIVES, "Own best update sizes with other objectives", runs, others, rules)


def _page(name: str, title: str, runs: pd.DataFrame, cells: pd.DataFrame, rules: str) -> list[Page]:
    if not len(cells):
        return []
    methods = methods_of(cells)
    parts = [
        f"Development seeds {ranges(sorted(set(runs['seed'])))}, which no table uses; {len(runs)} runs; means over data sets and models "
        f"with 95 % bootstrap intervals. {rules}",
        _choices(cells, methods),
    ]
    for (objective, family), rows in cells.groupby(["objective", "family"], sort=True):
        parts.append(f"### {_heading(objective, family)}\n\n{_rewards(rows, methods)}")
    return [Page(name, title, "\n\n".join(parts), cells, runs["git_commit"], experiment=runs["experiment"].iloc[0])]


def _heading(objective: str, name: str) -> str:
    return f"{OBJECTIVES[objective]}, {FAMILIES.get(name, name)}"


def _choices(cells: pd.DataFrame, methods: list[str]) -> str:
    lines = []
    for (objective, name), rows in cells.groupby(["objective", "family"], sort=True):
        matched = rows[rows[MATCHED]]["learning_rate"].unique()
        best = rows[rows[OWN_BEST]].set_index("method")["learning_rate"]
        rates = [matched[0] if len(matched) else None, *(best.get(method) for method in methods)]
        lines.append([_heading(objective, name), *(_rate(rate, rows) for rate in rates)])
    header = ["objective, family", "matched", *(f"own best, {SWEPT_NAMES[method]}" for method in methods)]
    return markdown_table(header, lines)


def _rate(rate: float | None, rows: pd.DataFrame) -> str:
    if rate is None:
        return NOT_RUN
    ends = (rows["learning_rate"].min(), rows["learning_rate"].max())
    return f"{rate:g}" + (" (end of the grid)" if rate in ends else "")


def _rewards(rows: pd.DataFrame, methods: list[str]) -> str:
    lines = []
    for rate, at_rate in rows.groupby("learning_rate", sort=True):
        of: dict[str, dict[str, Any]] = {row["method"]: row for row in at_rate.to_dict("records")}
        mark = " (matched)" if at_rate[MATCHED].any() else ""
        shown = [_reward(of.get(method, {})) for method in methods]
        human = of.get("human", {})
        lines.append([f"{rate:g}{mark}", interval(human, "gra"), plain(human, "unfinished", 1), *shown])
    header = [
        "learning rate",
        "GRA %, Human",
        "unfinished %, Human",
        *(f"gold reward, {SWEPT_NAMES[method]}" for method in methods),
    ]
    return markdown_table(header, lines)


def _reward(cell: dict[str, Any]) -> str:
    text = interval(cell, "reward", 2)
    return f"**{text}**" if cell.get(OWN_BEST) else text
