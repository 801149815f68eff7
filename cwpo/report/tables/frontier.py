"""Tables of mean gold reward against KL(π‖π_ref) at many learning rates: they compare arms without choosing a rate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from cwpo.pages import markdown_table
from cwpo.report.inputs import Results, datasets
from cwpo.report.names import DATA_NAMES, SWEPT_NAMES, label
from cwpo.report.tables.cells import counts, interval, named_interval, outcome
from cwpo.report.tables.page import Page
from cwpo.results import BOTH, MATCHED, OWN_BEST
from cwpo.statistics import bootstrap_interval, t_interval

PANEL = ["weak", "strong", "data"]
OUTSIDE = "–"


@lru_cache(maxsize=1)
def frontier_cells(results: Results) -> pd.DataFrame:
    """Returns one row per pair of models, data set, method and learning rate; empty if nothing ran.

    A row has the numbers of `outcome`, the mean KL in nats per response, and `point`, the operating point (see
    cwpo.config.update_sizes) that has this learning rate: "matched", "own_best" or "both"; "" for any other rate.
    """
    cells = []
    for values, rows in results.of("frontier").groupby([*PANEL, "method", "learning_rate"], sort=True):
        point = next(iter(rows["point"].dropna()), "")
        where = dict(zip([*PANEL, "method", "learning_rate"], values))
        cells.append({**where, "point": point, **_divergence(results, rows), **outcome(results, [rows])})
    return pd.DataFrame(cells)


def _divergence(results: Results, rows: pd.DataFrame) -> dict[str, Any]:
    """Returns the mean KL to the SFT model, in nats per response, with its interval; {} if a run has no KL."""
    measured = [results.rewards[run].kl for run in rows["run"]]
    known = [values for values in measured if values is not None]
    return named_interval("kl", bootstrap_interval(known)) if len(known) == len(measured) else {}


def panels(cells: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yields (models' label, data set's name, cells) per model pair and data set; the paper's data sets come first."""
    for (weak, strong), rows in cells.groupby(PANEL[:2], sort=True):
        for name in datasets(rows):
            yield (f"{label(weak)} → {label(strong)}", DATA_NAMES.get(name, name), rows[rows["data"] == name])


def methods_of(cells: pd.DataFrame) -> list[str]:
    return [name for name in SWEPT_NAMES if name in set(cells["method"])]


def at_humans_kl(cells: pd.DataFrame, point: str) -> dict[str, float]:
    """Returns {method: mean gold reward} at the KL that Human has at operating point `point`.

    `cells` are those of one model pair and data set. A method's reward is interpolated linearly in the root of KL, as
    the figure draws it, between its learning rates; its SFT model counts as KL 0. Rewards rise with about the root of
    KL: a line in KL itself would lie far below every method's curve but Human's, which has a point at this KL. A method
    whose largest KL is below Human's is left out. Returns {} if Human did not run at `point` or a KL is missing.
    """
    human = cells[(cells["method"] == "human") & cells["point"].isin((point, BOTH))]
    if len(human) != 1 or "kl" not in cells or cells["kl"].isna().any():
        return {}
    kl, found = float(human["kl"].iloc[0]), {}
    for name, rows in cells.groupby("method"):
        line = rows.sort_values("kl")
        if kl <= line["kl"].iloc[-1]:
            rewards = [line["reward_sft"].iloc[0], *line["reward"]]
            measured = [0.0, *line["kl"]]
            found[str(name)] = float(np.interp(root(kl), root(measured), rewards))
    return found


def gains_at_humans_kl(results: Results, point: str) -> list[float]:
    """Returns CW-PO's minus Human's mean gold reward at the KL that Human has at `point`: one mean over panels per seed.

    A seed that lacks a panel of another seed, or one of the two in a panel, is left out. Returns [] if a KL is missing.
    """
    cells = results.of("frontier").rename(columns={"reward_mean": "reward", "reward_sft_mean": "reward_sft"})
    gains = []
    for _, seed in cells.groupby("seed"):
        read = [at_humans_kl(rows, point) for _, rows in seed.groupby(PANEL)]
        if len(read) == cells.groupby(PANEL).ngroups and all({"human", "cw_po"} <= set(rewards) for rewards in read):
            gains.append(float(np.mean([rewards["cw_po"] - rewards["human"] for rewards in read])))
    return gains


def mean_gain(gains: list[float]) -> str:
    """Formats the mean of one gain per seed with its t interval: `+0.04 [-0.05, 0.13]`, without one for a single seed."""
    mean = f"{np.mean(gains):+.2f}"
    if len(gains) < 2:
        return mean
    low, high = t_interval(gains)
    return f"{mean} [{low:.2f}, {high:.2f}]"


def root(kl: Any) -> Any:
    return np.sqrt(np.maximum(kl, 0))  # a sampled KL near 0 may be negative


def frontier(results: Results) -> list[Page]:
    """Returns [page]: gold rewards at Human's KL, then all results by method and learning rate; [] if nothing ran."""
    cells = frontier_cells(results)
    if not len(cells):
        return []
    runs, methods = results.of("frontier"), methods_of(cells)
    at_kl, parts = [], []
    gained = {point: gains_at_humans_kl(results, point) for point in (MATCHED, OWN_BEST)}
    for pair, name, rows in panels(cells):
        for point in (MATCHED, OWN_BEST):
            found = at_humans_kl(rows, point)
            shown = [f"{found[method]:.2f}" if method in found else OUTSIDE for method in methods]
            at_kl.append([f"{pair}, {name}, {point.replace('_', ' ')}", *shown])
        parts.append(f"### {pair}, {name}\n\n{_points(rows, methods)}")
    text = (
        "Mean gold reward of the aligned model and its KL to its own SFT model, in nats per response (mean of log π(y) − log π_ref(y) over "
        f"its own responses to the test prompts), at every update size; {counts(cells.to_dict('records'), runs['seed'])}. "
        "Mean gold reward at the KL of Human's matched point and of its own best, on the line from each method's SFT model through its "
        f"update sizes, straight in the root of KL as in the figure ({OUTSIDE}: its largest KL is smaller):\n\n"
        + markdown_table(["", *(SWEPT_NAMES[method] for method in methods)], at_kl)
    )
    total = [
        f"at that of Human's {point.replace('_', ' ')} point {mean_gain(gains)} ({len(gains)} seeds)"
        for point, gains in gained.items()
        if gains
    ]
    if total:
        text += f"\n\nCW-PO − Human at equal KL, the mean over the panels with its 95 % t interval over seeds: {'; '.join(total)}."
    body = "\n\n".join([text, *parts])
    return [Page("frontier", "Gold reward against KL", body, cells, runs["git_commit"])]


def _points(rows: pd.DataFrame, methods: list[str]) -> str:
    ordered = rows.assign(order=rows["method"].map(methods.index)).sort_values(["order", "learning_rate"])
    lines = [
        [
            f"{SWEPT_NAMES[cell['method']]}, {cell['learning_rate']:g}",
            interval(cell, "kl", 2),
            interval(cell, "reward", 2),
            interval(cell, "gra"),
            cell["point"].replace("_", " ") or OUTSIDE,
        ]
        for cell in ordered.to_dict("records")
    ]
    return markdown_table(["arm, learning rate", "KL", "gold reward", "GRA %", "operating point"], lines)
