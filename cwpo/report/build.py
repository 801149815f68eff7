"""Builds the whole report of one scale: tables, figures, claims and the HTML page."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cwpo.errors import InputError
from cwpo.report.claims.ledger import judge_all
from cwpo.report.claims.write import write_claims
from cwpo.report.figures import AT_MATCHED, OF_ALL
from cwpo.report.fresh import digest_of, remember, remove_others, up_to_date
from cwpo.report.html import write_page
from cwpo.report.inputs import PAPER, Results, load
from cwpo.report.tables.annotators import ANNOTATOR_SPECS, calibration, table6
from cwpo.report.tables.arms import SPECS
from cwpo.report.tables.controls import controls
from cwpo.report.tables.figure_specs import FIGURE_SPECS
from cwpo.report.tables.frontier import frontier
from cwpo.report.tables.page import Page
from cwpo.report.tables.ranking import summaries
from cwpo.report.tables.regimes import REGIMES
from cwpo.report.tables.render import pages
from cwpo.report.tables.table1 import GRIDS
from cwpo.report.tables.tuning import MORE_TUNINGS, OTHER_OBJECTIVES, TUNINGS, tuning
from cwpo.results import MATCHED, NAME, ResultsError

ALL_SPECS = (*SPECS, *GRIDS, *FIGURE_SPECS, *ANNOTATOR_SPECS, REGIMES)
TUNED = {*TUNINGS, *MORE_TUNINGS, OTHER_OBJECTIVES}
COVERED = {name for spec in ALL_SPECS for name in spec.shown} | {"controls", "frontier"} | TUNED
TABLES: tuple[Callable[[Results], list[Page]], ...] = (
    *(partial(pages, spec) for spec in ALL_SPECS),
    *(table6, calibration, controls, tuning, frontier),
    partial(summaries, covered=COVERED),
)

SETTLES = 5.0  # seconds within which a run that enters rows writes the next file


def build_report(results: Path, scale: str) -> list[Path]:
    """Writes tables, figures, claims and page of a scale from its files in `results`/`scale`; returns all their paths.

    A table cell without runs says "not run". A table without runs is left out, and deleted if the last report had it.
    If the report is up to date, nothing is written. InputError if `scale` is no folder name or has no results.
    """
    folder = results / scale
    if not NAME.fullmatch(scale):
        raise InputError(f"scale={scale} is not a folder name; name a folder of {results}, such as scale=toy")
    inputs = _digest(results, folder)  # before they are read: another run may add rows meanwhile
    written = up_to_date(folder, inputs)
    if written is None:
        try:
            found = load(results, scale)
        except ResultsError:  # perhaps another run has entered its rows in runs.csv and not yet their rewards
            time.sleep(SETTLES)
            if _digest(results, folder) == inputs:
                raise
            return build_report(results, scale)
        written = _build(found, folder)
        remove_others(folder, written)
        remember(folder, inputs, written)
    return written


def _digest(results: Path, folder: Path) -> str:
    return digest_of([*sorted([*folder.glob("*.csv"), *folder.glob("rewards/*.csv.gz")]), results / PAPER])


def _build(found: Results, folder: Path) -> list[Path]:
    written = [path for table in TABLES for page in table(found) for path in page.write(folder / "tables", found.scale)]
    matched = found.at(MATCHED)
    written += [path for draw in AT_MATCHED for path in draw(matched, folder / "figures")]
    written += [path for draw in OF_ALL for path in draw(found, folder / "figures")]
    entries = judge_all(found)
    entries = entries if any(entry.ran for entry in entries) else []  # none: no experiment of the paper ran
    page = write_page(found, entries, written, folder)
    return [*written, *(write_claims(entries, folder, found.scale) if entries else ()), page]
