"""Writes report.html: claims, tables, figures and samples of one scale in one self-contained file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.pages import image, markdown_html, paper_order, render
from cwpo.report.answer import QUESTION, answer
from cwpo.report.claims.ledger import Entry
from cwpo.report.claims.rule import RULE
from cwpo.report.claims.write import READING, SIDES, cells, counts, details, limits, paper_effect, summary
from cwpo.report.inputs import Results, commits
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, POINT_NAMES, capital, scale_note, the_point
from cwpo.report.tables.cells import ranges
from cwpo.results import WRITTEN

PROMPTS, PAIRS = 3, 5  # examples shown: prompts per data set and strong model; pairs per band
HEAD = "figure-frontier"  # id of the figure beside the answer to QUESTION
BANDS = {"low": "least confident", "high": "most confident"}


def write_page(
    results: Results, entries: Sequence[Entry], written: Sequence[Path], folder: Path, sweep: str = ""
) -> Path:
    """Writes report.html into `folder` and returns its path. Equal results give equal bytes.

    The page shows the answer to QUESTION, the claims in `entries`, the Markdown tables and PNG figures in `written`,
    and examples of responses and labels. If `sweep` names a user's sweep, the page is about it and has no answer.
    """
    written = sorted(written, key=lambda path: paper_order(path.stem))
    tables = [_table(path, folder) for path in written if path.suffix == ".md"]
    titles = {table["stem"]: table["title"] for table in tables}
    figures = [_figure(path, titles) for path in written if path.suffix == ".png"]
    page = folder / "report.html"
    said = [] if sweep else answer(results)
    head = [figure for figure in figures if (entries or said) and figure["id"] == HEAD]
    judged = entries and {
        "limits": limits(entries, results.scale),
        "summary": summary(entries, results.scale),
        "counts": counts(entries),
        "headings": {point: capital(the_point(point)) for point in POINT_NAMES},
        "reading": f"{READING} {SIDES}",
        "rule": markdown_html(RULE),
        "entries": entries,
        "cells": cells,
        "details": details,
        "paper_effect": paper_effect,
    }
    html = render(
        "report.html.jinja",
        scale=results.scale,
        sweep=sweep,
        note=capital(scale_note(results.scale)),
        question=QUESTION,
        said=said,
        head=head,
        judged=judged,
        tables=tables,
        figures=[figure for figure in figures if figure not in head],
        samples=list(samples(results.samples)),
        disagreements=list(disagreements(results.disagreements)),
        provenance=provenance(results),
    )
    page.write_text(html, encoding="utf-8")
    return page


def _table(path: Path, folder: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    title = text.partition("\n")[0].lstrip("# ").strip()
    return {
        "id": f"table-{path.stem}",
        "stem": path.stem,
        "name": _short(path.stem),
        "title": title,
        "html": markdown_html(text, label=title, folder=path.parent.relative_to(folder).as_posix()),
    }


def _figure(path: Path, titles: dict[str, str]) -> dict[str, Any]:
    """Returns the template's fields for a figure, with title and link of the table that has the same name, if any."""
    name, has_table = _short(path.stem), path.stem in titles
    title = titles.get(path.stem, name)
    return {
        "id": f"figure-{path.stem}",
        "name": name,
        "title": title,
        "alt": f"Plot: {title}." + (f" The numbers are in the table “{title}” on this page." if has_table else ""),
        "numbers": f"table-{path.stem}" if has_table else "",
        "image": image(path.read_bytes()),
    }


def _short(stem: str) -> str:
    """Returns a file's stem as a name: `Table 13` for `table13`, `Figure 3 left` for `figure3_left`."""
    words = re.sub(r"^(table|figure)(?=\d)", r"\1 ", stem).replace("_", " ")
    return capital(words)


def samples(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yields Tables 14 and 15: for each data set and strong model, all arms' responses to PROMPTS test prompts.

    Each arm answers with its SFT and its aligned model (DPO, matched learning rate); only the smallest seed is shown.
    """
    for (data, strong), rows in _with_texts(frame).groupby(["data", "strong"], sort=True):
        rows = rows[rows["seed"] == rows["seed"].min()].assign(arm=rows["method"].replace(METHOD_NAMES))
        answers = [part.sort_values(["method", "run_key"]) for _, part in rows.groupby("prompt_id", sort=True)]
        yield {
            "name": DATA_NAMES.get(data, data),
            "about": f"{strong}, seed {rows['seed'].min()}",
            "prompts": [part.to_dict("records") for part in answers[:PROMPTS]],
        }


def disagreements(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yields Tables 18, 19: per data set and weak model, pairs whose weak label is not the human one, by confidence."""
    for (data, weak), rows in _with_texts(frame).groupby(["data", "weak"], sort=True):
        rows = rows.sort_values(["seed", "pair_id"])
        bands = {words: rows[rows["band"] == band].head(PAIRS) for band, words in BANDS.items()}
        yield {
            "name": DATA_NAMES.get(data, data),
            "about": weak,
            "bands": {words: part.to_dict("records") for words, part in bands.items() if len(part)},
        }


def _with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Restores empty texts: the CSV holds them as blanks, which pandas reads as missing values."""
    return frame.fillna({name: "" for name in WRITTEN if name in frame})


def provenance(results: Results) -> list[list[str]]:
    """Returns a row per experiment: name, runs, seeds, prompts, training seconds, commits; if several, then a total."""
    keep = ["experiment", "run_key", "seed", "n_eval", "train_seconds", "git_commit"]
    frames = [frame[keep] for frame in (results.runs, results.annotators) if len(frame)]
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=keep)
    names = sorted(set(rows["experiment"]), key=paper_order)
    lines = [_origin(name, rows[rows["experiment"] == name]) for name in names]
    return [*lines, *([_origin("all, shared runs once", rows.drop_duplicates("run_key"))] if len(names) > 1 else [])]


def _origin(name: str, rows: pd.DataFrame) -> list[str]:
    return [
        name,
        f"{rows['run_key'].nunique():,}",
        ranges(sorted({int(seed) for seed in rows["seed"]})),
        f"{int(rows['n_eval'].sum()):,}",
        f"{rows['train_seconds'].astype(float).sum():,.0f}",
        commits(rows["git_commit"]),
    ]
