"""Writes a user's sweep to results/<scale>/<name>/: a table ranked by gold reward, figures of swept keys, a page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cwpo.report.figures.axes import axis_figures
from cwpo.report.html import write_page
from cwpo.report.inputs import load
from cwpo.report.tables.ranking import page, ranked, texts

KNOWN = ["run_key", "seed", "reference"]  # columns of `arms` that are not swept keys


class Written(NamedTuple):
    """What write_sweep returns: the ranking as numbers (`table`) and as text (`shown`), and the files written."""

    table: pd.DataFrame
    shown: pd.DataFrame
    files: list[Path]


def write_sweep(results: Path, scale: str, name: str, arms: pd.DataFrame, against: str | None) -> Written:
    """Writes the table, figures and page of the sweep `name`, whose runs are rows of `results`/`scale`/runs.csv.

    `arms` has one row for each run. Its columns are `run_key`, `seed`, `reference`, and one for each swept key, None
    where the run does not depend on the key. `reference` is the run_key of the run of method `against` with which the
    row's run is compared, or None.
    """
    found = load(results, scale, name, set(arms["run_key"]))
    axes = [column for column in arms if column not in KNOWN]
    own = arms if against else arms.drop(columns="reference")
    rows = found.arms.drop(columns=["seed", *axes], errors="ignore").merge(own, on="run_key", how="inner")
    cells = ranked(found, rows, axes)
    shown = texts(cells, axes, against or "")
    folder = results / scale / name
    table = page(name, rows, axes, cells, shown)
    drawn = rows[rows["reference"].notna()] if against else rows  # without the reference arms
    files = [*table.write(folder, scale), *axis_figures(found, drawn, axes, folder)]
    return Written(table.frame, shown, [*files, write_page(found, [], files, folder, name)])
