"""Result files that only some experiments leave behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cwpo.results import read_rows


def optional(folder: Path, name: str, columns: list[str]) -> pd.DataFrame:
    """The rows of results/<scale>/<name>, or none, with the columns, where there is no such file.

    Raises ResultsError for a file that cannot be trusted.
    """
    path = folder / name
    return read_rows(path, columns) if path.is_file() else pd.DataFrame(columns=columns)
