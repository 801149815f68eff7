"""The update sizes of both operating points, chosen on development seeds that no table uses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.pages import markdown_table
from cwpo.report.inputs import Results
from cwpo.report.names import SWEPT_NAMES
from cwpo.report.tables.cells import NOT_RUN, interval, outcome, ranges
from cwpo.report.tables.page import Page
from cwpo.results import MATCHED, OWN_BEST

SUBSETS_OF_TABLE1 = "table20"
TUNINGS = ("tuning", "headline_tuning")  # the first that ran is shown


def human_target(results: Results) -> float:
    """Returns Human's mean GRA in percent over the paper's tables except Table 20; NaN without the paper's numbers."""
    paper = results.paper
    tables = paper["source"].str.startswith("table") & (paper["source"] != SUBSETS_OF_TABLE1)
    rows = paper[tables & (paper["metric"] == "gra") & (paper["method"] == "human")]
    return float(rows["value"].astype(float).mean())


@lru_cache(maxsize=1)
def tuning_cells(results: Results) -> pd.DataFrame:
    """Returns a row per model family, method and learning rate: `outcome` over data sets and models; empty if none ran.

    Two columns mark the chosen rates. `matched`: one rate for all methods of a family, where Human's GRA is nearest to
    `human_target`; rates above the one with Human's highest GRA do not count. `own_best`: the method's rate with the
    highest mean gold reward.
    """
    runs = results.of(*TUNINGS)
    cells = []
    for (name, method, rate), rows in runs.groupby(["family", "method", "learning_rate"], sort=True):
        # A cell is one data set and pair of models, with all its development seeds.
        parts = [part for _, part in rows.groupby(["data", "weak", "strong"], sort=True)]
        cells.append({"family": name, "method": method, "learning_rate": rate, **outcome(results, parts)})
    frame = pd.DataFrame(cells)
    if not len(frame) or "gra" not in frame:
        return pd.DataFrame()
    best = frame.groupby(["family", "method"])["reward"].transform("max")
    chosen = {name: _matched(rows, human_target(results)) for name, rows in frame.groupby("family")}
    matched = frame["learning_rate"] == frame["family"].map(chosen)
    return frame.assign(**{MATCHED: matched, OWN_BEST: frame["reward"] == best})


def _matched(rows: pd.DataFrame, target: float) -> float:
    """Returns the matched learning rate of one family; NaN if Human did not run or `target` is NaN."""
    human = rows[rows["method"] == "human"].set_index("learning_rate")["gra"].dropna()
    if not len(human):
        return float("nan")
    rising = human[human.index <= human.idxmax()]
    distance = (rising - target).abs()
    return float("nan") if distance.isna().all() else float(distance.idxmin())


def tuning(results: Results) -> list[Page]:
    """Returns one page: the chosen rates, then Human's GRA and all gold rewards by learning rate; [] if nothing ran."""
    cells = tuning_cells(results)
    if not len(cells):
        return []
    runs = results.of(*TUNINGS)
    methods = [name for name in SWEPT_NAMES if name in set(cells["method"])]
    parts = [
        f"Development seeds {ranges(sorted(set(runs['seed'])))}, which no table uses; {len(runs)} runs; means over data sets and models "
        f"with 95 % bootstrap intervals. **Matched**: one update size for all arms of a family, the one at which Human's mean GRA is "
        f"nearest to the paper's mean, {human_target(results):.1f} %, on the rising side of its curve; the Human arm alone "
        "chooses it. **Own best**: each method's update size with the highest mean gold reward, in bold.",
        _choices(cells, methods),
    ]
    for name, rows in cells.groupby("family", sort=True):
        parts.append(f"### {FAMILIES.get(name, name)}\n\n{_rewards(rows, methods)}")
    text = "\n\n".join(parts)
    title, origin = "Update sizes of the operating points", runs["experiment"].iloc[0]
    return [Page("tuning", title, text, cells, runs["git_commit"], experiment=origin)]


def _choices(cells: pd.DataFrame, methods: list[str]) -> str:
    lines = []
    for name, rows in cells.groupby("family", sort=True):
        matched = rows[rows[MATCHED]]["learning_rate"].unique()
        best = rows[rows[OWN_BEST]].set_index("method")["learning_rate"]
        rates = [*matched[:1], *(best.get(method) for method in methods)]
        shown = [_rate(rate, rows) for rate in ([None] if not len(matched) else []) + rates]
        lines.append([FAMILIES.get(name, name), *shown])
    header = ["family", "matched", *(f"own best, {SWEPT_NAMES[method]}" for method in methods)]
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
        lines.append([f"{rate:g}{mark}", interval(of.get("human", {}), "gra"), *shown])
    header = ["learning rate", "GRA %, Human", *(f"gold reward, {SWEPT_NAMES[method]}" for method in methods)]
    return markdown_table(header, lines)


def _reward(cell: dict[str, Any]) -> str:
    text = interval(cell, "reward", 2)
    return f"**{text}**" if cell.get(OWN_BEST) else text
