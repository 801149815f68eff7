"""Everything the report writes for one scale."""

from __future__ import annotations

from pathlib import Path

from cwpo.report.annotators import calibration, table13
from cwpo.report.claims.write import judge_all, write_claims
from cwpo.report.collect import load
from cwpo.report.figure2 import figure2, figure2_table
from cwpo.report.html.document import write_page
from cwpo.report.other import summaries, tuning
from cwpo.report.table1 import table1

TABLES = (table1, figure2_table, table13, calibration, tuning, summaries)
FIGURES = (figure2,)


def build_report(results: Path, scale: str) -> list[Path]:
    """Write results/<scale>/tables/ and figures/, the claims and the page from the result files; return what was written.

    What has not been run is marked so, or left out where nothing of a table was run.
    """
    loaded = load(results, scale)
    folder = results / scale
    written = [
        path for table in TABLES for page in table(loaded) for path in page.write(folder / "tables", scale)
    ]
    written += [path for draw in FIGURES for path in draw(loaded, folder / "figures")]
    outcomes = judge_all(loaded, folder)
    page = write_page(loaded, outcomes, written, folder)
    return [*written, *write_claims(outcomes, folder, scale), page]
