"""One table of the report as files: Markdown for people, tidy CSV for programs, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cwpo.report.inputs import commits
from cwpo.report.names import capital, scale_note
from cwpo.results import UNROUNDED


@dataclass(frozen=True)
class Page:
    """One table. `frame` holds the rows of the CSV, `text` the Markdown body, `tex` the LaTeX (None: no such file).

    `commits`: the git commits of the runs. `own`: whether a user made the runs with scripts/run.py; the page then names
    this command, not `make reproduce`. `experiment` is the experiment of the runs, by default `name`. `settings` are
    the columns of `frame` that are not rounded to 4 decimals.
    """

    name: str
    title: str
    text: str | None
    frame: pd.DataFrame
    commits: pd.Series
    own: bool = False
    tex: str | None = None
    experiment: str = ""
    settings: Sequence[str] = UNROUNDED

    def write(self, folder: Path, scale: str) -> list[Path]:
        """Writes the table's files into `folder`; returns their paths, Markdown first."""
        folder.mkdir(parents=True, exist_ok=True)
        digits = {name: 4 for name in self.frame if name not in self.settings}
        table = self.frame.round(digits).to_csv(index=False, lineterminator="\n")
        written = []
        for ending, text in ((".md", self._markdown(scale)), (".csv", table), (".tex", self.tex)):
            if text is not None:
                written.append(folder / f"{self.name}{ending}")
                written[-1].write_text(text, encoding="utf-8")
        return written

    def _markdown(self, scale: str) -> str | None:
        if self.text is None:
            return None
        note = scale_note(scale)
        origin = f"Made by `make reproduce SCALE={scale} EXPERIMENT={self.experiment or self.name}`"
        if self.own:
            note = f"{scale} scale: hyperparameters of conf/scale/{scale}.yaml, data and models named below"
            origin = f"Made by `python scripts/run.py name={self.name} ...`"
        made = f"{origin}; cells in [{self.name}.csv]({self.name}.csv); commit {commits(self.commits)}."
        return f"# {self.title}\n\n{capital(note)}.\n\n{self.text}\n\n{made}\n"
