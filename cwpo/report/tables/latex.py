"""Writes a filled table as LaTeX (booktabs).

Each row shows our mean and interval, then the paper's number, then the second number of the table's kind.
"""

from __future__ import annotations

import re

import pandas as pd

from cwpo.report.names import capital, scale_note
from cwpo.report.tables.cells import counts, interval
from cwpo.report.tables.grid import Cell, Grid, Section
from cwpo.report.tables.kinds import Number

SPECIAL = {letter: rf"\{letter}" for letter in "&%$#_{}"}
NAMED = r"\textbackslash{} \textasciitilde{} \textasciicircum{} $\rightarrow$ $-$ -- $\pm$ $\cdot$ $\geq$ \textless{} \textgreater{}"
SPECIAL |= dict(zip("\\~^→−–±·≥<>", NAMED.split(), strict=True))


def escape(text: str) -> str:
    """Escapes special characters, so that LaTeX shows the text unchanged."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def tabular(grid: Grid, scale: str, title: str, name: str) -> str:
    """Returns a filled table as a LaTeX `table` with label tab:`name`, which needs \\usepackage{booktabs}."""
    width = len(grid.columns) + 1
    body: list[str] = []
    for index, section in enumerate(grid.sections):
        body += [r"\midrule"] if index else []
        if section.label:
            body.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(section.label)}}}}} \\")
        body += _rows(grid, section)
    spec = grid.spec
    sizes = counts(grid.cells, grid.seeds, spec.kind.what)
    note = re.sub(r"10\\textasciicircum\{\}(\d)", r"$10^{\1}$", escape(capital(scale_note(scale))))
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering\small",
            rf"\caption{{{escape(title)}. {note}; {escape(spec.kind.main.title)}, mean and 95\,\% bootstrap interval, "
            rf"{escape(sizes)}.}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{l{'c' * len(grid.columns)}}}",
            r"\toprule",
            " & ".join(["", *(escape(column) for column in grid.columns)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _rows(grid: Grid, section: Section) -> list[str]:
    main, second = grid.spec.kind.main, grid.spec.kind.second
    lines = []
    for label, cells in section.rows:
        lines.append([escape(label) or "ours", *(_mean(cell, main) for cell in cells)])
        if grid.has_paper:
            lines.append([r"\quad paper", *(_paper(cell) for cell in cells)])
        if section.ran:
            lines.append([rf"\quad {escape(second.short)}", *(_mean(cell, second) for cell in cells)])
    return [" & ".join(line) + r" \\" for line in lines]


def _mean(cell: Cell, number: Number) -> str:
    mean, bracket, ends = escape(interval(cell, number.name, number.digits)).partition(" [")
    if not bracket:  # the cell did not run, or has a standard deviation
        return mean
    beside = f" ({cell[number.beside[0]]:.2f})" if number.beside else ""
    return re.sub(r"-(?=\d)", r"$-$", rf"{mean} {{\scriptsize [{ends}}}{beside}")  # minus signs, not hyphens


def _paper(cell: Cell) -> str:
    if pd.isna(cell["paper"]):
        return "--"
    spread = "" if pd.isna(cell["paper_std"]) else rf" $\pm$ {cell['paper_std']:.2f}"
    return f"{cell['paper']:g}{spread}"
