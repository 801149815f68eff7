"""The text at the head of the report page: whether CW-PO beats human labels here, when, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.inputs import Results, select
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, WS, capital, label, the_point
from cwpo.report.tables.cells import compare, interval
from cwpo.report.tables.frontier import at_humans_kl, frontier_cells, gains_at_humans_kl, mean_gain, panels
from cwpo.report.tables.kinds import ARMS
from cwpo.statistics import DIGITS, Floats, Interval, interval_of, t_interval

QUESTION = "Does CW-PO beat human labels here?"
TABLES = ("table1", "headline")
CELL = ["data", "weak", "strong"]
VERBS = {"ahead": "beats", "behind": "loses to", "level": "cannot be told apart from"}
FEW = 4  # at most so many cells are listed one by one


def answer(results: Results) -> list[tuple[str, str]]:
    """Returns (heading, text) pairs: CW-PO against Human at each operating point, and at equal KL; [] if not run."""
    points = results.points(*TABLES, "frontier")
    found = [(capital(the_point(point)), text) for point in points if (text := _at(results, point))]
    at_kl = [text for point in points if (text := _equal_kl(results, point))]
    return [*found, ("At equal KL to the SFT model", " ".join(at_kl))] if at_kl else found


def _runs(results: Results, point: str) -> dict[str, pd.DataFrame]:
    """Returns method -> its DPO runs at operating point `point`; an arm in several experiments counts once per seed.

    The experiments are table1, headline and frontier. A cell is a data set and a pair of models. Keeps a seed only if
    CW-PO and Human both ran with it in every cell that has runs of both, because `compare` leaves out cells that lack
    a seed. If there is no such seed, keeps all seeds.
    """
    arms = results.at(point).arms
    at_point = arms["experiment"].isin(TABLES) | ((arms["experiment"] == "frontier") & arms["point"].notna())
    runs = arms[at_point & (arms["objective"] == "dpo")].drop_duplicates(["method", *CELL, "seed"])
    compared = (
        runs[runs["method"].isin(("cw_po", "human"))].groupby([*CELL, "seed"]).filter(lambda both: len(both) == 2)
    )
    seeds = [set(of_cell) for _, of_cell in compared.groupby(CELL)["seed"]]
    common = set.intersection(*seeds) if seeds else set()
    return dict(list((runs[runs["seed"].isin(common)] if common else runs).groupby("method")))


def _at(results: Results, point: str) -> str:
    runs = _runs(results, point)

    def gain(other: str) -> dict[str, Any]:
        if not {"cw_po", other} <= set(runs):
            return {}
        return compare(results, runs["cw_po"], runs[other], ARMS.same, _over_seeds)

    total = gain("human")
    if "difference" not in total:  # nothing ran, or rewards cannot be compared between runs
        return ""
    basis = (
        "95 % t intervals over seeds" if total["seeds"] > 1 else "intervals over prompts, as one seed decides nothing"
    )
    over = "; ".join(f"{METHOD_NAMES[name]} {_signed(cell)}" for name in WS if (cell := gain(name)))
    return (
        f"CW-PO {VERBS[_side(total)]} human labels in mean gold reward: {_signed(total)}, GRA {_signed(total, 'gra_difference', 1)} "
        f"points; {total['seeds']} seeds, {total['cells']} cells (data set and models, DPO), {basis}: "
        f"{_by_cell(results, runs['cw_po'], runs['human'])}."
        + (f" Its gain over unweighted weak labels: {over}." if over else "")
    )


def _by_cell(results: Results, cw: pd.DataFrame, human: pd.DataFrame) -> str:
    """Returns e.g. `ahead in 8 (+0.10 to +0.21), level in 2 (...)`: where CW-PO is ahead of, behind, level with Human.

    The text counts cells (data set, pair of models). The numbers are CW-PO's mean gold reward minus Human's. A cell is
    level if the interval of this difference contains 0, or if there is one seed.
    """
    found: dict[str, list[tuple[float, str]]] = {side: [] for side in VERBS}
    for where, rows in cw.groupby(CELL, sort=True):
        cell = compare(results, rows, select(human, dict(zip(CELL, where))), ARMS.same, _over_seeds)
        if "difference" in cell:
            data, _, strong = where
            found[_side(cell)].append((cell["difference"], f"{DATA_NAMES.get(data, data)}, {label(strong)}"))
    return ", ".join(f"{side} in {len(cells)} ({_listed(cells)})" for side, cells in found.items() if cells)


def _listed(cells: Sequence[tuple[float, str]]) -> str:
    """Returns each cell's name and difference; of more than FEW cells, only the smallest and largest difference."""
    if len(cells) <= FEW:
        return "; ".join(f"{name} {gain:+.2f}" for gain, name in cells)
    return f"{min(cells)[0]:+.2f} to {max(cells)[0]:+.2f}"


def _over_seeds(centres: Sequence[float], means: Floats) -> Interval:
    """Returns the mean of `centres` (one per seed) and its t interval.

    With one seed, the interval is that of the resampled `means`.
    """
    if len(centres) < 2:
        return interval_of(centres, means)
    return Interval(*np.round([np.mean(centres), *t_interval(centres)], DIGITS).tolist())


def _side(cell: dict[str, Any]) -> str:
    if cell["seeds"] < 2:
        return "level"
    return "ahead" if cell["difference_low"] > 0 else "behind" if cell["difference_high"] < 0 else "level"


def _signed(cell: dict[str, Any], name: str = "difference", digits: int = 2) -> str:
    text = interval(cell, name, digits)
    return text if text.startswith("-") else f"+{text}"


def _equal_kl(results: Results, point: str) -> str:
    cells = frontier_cells(results)
    gains = [
        (at_kl["cw_po"] - at_kl["human"], f"{name}, {pair.rpartition(' ')[2]}")
        for pair, name, rows in (panels(cells) if len(cells) else ())
        if {"human", "cw_po"} <= set(at_kl := at_humans_kl(rows, point))
    ]
    ahead = sum(gain > 0 for gain, _ in gains)
    if not gains:
        return ""
    by_seed = gains_at_humans_kl(results, point)
    mean = f", {mean_gain(by_seed)} on average over {len(by_seed)} seeds" if by_seed else ""
    return (
        f"At that of Human's {point.replace('_', ' ')} point, CW-PO's mean gold reward is the higher one in {ahead} of {len(gains)} panels "
        f"({_listed(gains)}){mean}."
    )
