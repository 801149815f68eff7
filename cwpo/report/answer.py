"""The head of the page in words: does CW-PO beat human labels here, when, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from cwpo.report.inputs import Results
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, WS, capital, label, the_point
from cwpo.report.tables.cells import compare, interval
from cwpo.report.tables.frontier import at_humans_kl, frontier_cells, panels
from cwpo.report.tables.kinds import ARMS

QUESTION = "Does CW-PO beat human labels here?"
CELL = ["data", "weak", "strong"]


def answer(results: Results) -> list[str]:
    """A few sentences for each operating point, then one at equal KL; [] if CW-PO and Human never ran in one cell."""
    lines = [line for point in results.points("table1", "frontier") for line in _at(results, point)]
    return lines + list(_equal_kl(results)) if lines else []


def _runs(results: Results, point: str) -> pd.DataFrame:
    """DPO runs of Table 1 and of the frontier's operating points, each once."""
    arms = results.at(point).arms
    table1 = (arms["experiment"] == "table1") & (arms["objective"] == "dpo")
    return arms[table1 | ((arms["experiment"] == "frontier") & arms["point"].notna())].drop_duplicates(
        "run_key"
    )


def _at(results: Results, point: str) -> Iterator[str]:
    runs = _runs(results, point)
    of = dict(list(runs.groupby("method")))
    if "cw_po" not in of or "human" not in of:
        return
    total = compare(results, of["cw_po"], of["human"], ARMS.same)
    if not total:
        return
    yield (
        f"{capital(the_point(point))}, CW-PO {_verb(total)} human labels: mean gold reward {_signed(total, 'difference', 2)}, GRA "
        f"{_signed(total, 'gra_difference', 1)} points, over {total['cells']} cells (data set and models; DPO) and {total['seeds']} seeds. "
        + _by_cell(results, of["cw_po"], of["human"])
    )
    others = [
        f"{METHOD_NAMES[name]} {_signed(cell, 'difference', 2)}"
        for name in WS
        if name in of and (cell := compare(results, of["cw_po"], of[name], ARMS.same))
    ]
    if others:
        yield f"CW-PO's gain in mean gold reward over unweighted weak labels, {the_point(point)}: {'; '.join(others)}."


def _by_cell(results: Results, cw: pd.DataFrame, human: pd.DataFrame) -> str:
    """In which cells the interval lies on one side of 0."""
    found: dict[str, list[str]] = {"ahead": [], "behind": [], "level": []}
    for (data, weak, strong), rows in cw.groupby(CELL, sort=True):
        same = (human["data"] == data) & (human["weak"] == weak) & (human["strong"] == strong)
        cell = compare(results, rows, human[same], ARMS.same)
        if cell:
            name = f"{DATA_NAMES.get(data, data)}, {label(strong)} ({cell['difference']:+.2f})"
            found[_side(cell)].append(name)
    parts = [_cells(found[side], f"It is {side} in") for side in ("ahead", "behind")]
    parts.append(_cells(found["level"], "The intervals hold 0 in", named=False))
    return " ".join(filter(None, parts))


def _cells(names: Sequence[str], lead: str, named: bool = True) -> str:
    shown = f": {'; '.join(names)}" if named else ""
    return f"{lead} {len(names)} cell{'s' * (len(names) != 1)}{shown}." if names else ""


def _side(cell: dict[str, Any]) -> str:
    if cell["difference_low"] > 0:
        return "ahead"
    return "behind" if cell["difference_high"] < 0 else "level"


def _verb(cell: dict[str, Any]) -> str:
    return {"ahead": "beats", "behind": "loses to", "level": "cannot be told apart from"}[_side(cell)]


def _signed(cell: dict[str, Any], name: str, digits: int) -> str:
    text = interval(cell, name, digits)
    return text if text.startswith("-") else f"+{text}"


def _equal_kl(results: Results) -> Iterator[str]:
    cells = frontier_cells(results)
    gains = {}
    for pair, name, rows in panels(cells) if len(cells) else ():
        at_kl = at_humans_kl(rows)
        if {"human", "cw_po"} <= set(at_kl):
            gains[f"{name}, {pair}"] = at_kl["cw_po"] - at_kl["human"]
    if gains:
        shown = "; ".join(f"{name} {gain:+.2f}" for name, gain in gains.items())
        ahead = sum(gain > 0 for gain in gains.values())
        yield (
            f"At equal KL to the SFT model (that of Human's matched point), CW-PO's mean gold reward is the higher one in {ahead} of "
            f"{len(gains)} panels of the figure: {shown}."
        )
