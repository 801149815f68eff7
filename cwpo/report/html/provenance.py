"""Where the numbers come from: runs, seeds, seconds and commits of every experiment."""

from __future__ import annotations

import pandas as pd

from cwpo.report.html.parts import escape, natural, table
from cwpo.report.inputs import Results
from cwpo.report.tables.cells import ranges

COLUMNS = ["experiment", "runs", "seeds", "test prompts or pairs", "training seconds", "commits"]
KINDS = ("", "number", "", "number", "number", "")


def section(results: Results) -> str:
    """The provenance part of the page, without its heading."""
    keep = ["experiment", "run_key", "seed", "n_eval", "train_seconds", "git_commit"]
    frames = [frame[keep] for frame in (results.runs, results.annotators) if len(frame)]
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=keep)
    names = sorted(set(rows["experiment"]), key=natural)
    lines = [_line(name, rows[rows["experiment"] == name]) for name in names]
    total = _line("all, shared runs once", rows.drop_duplicates("run_key"))
    own = "" if results.scale == "toy" else f" SCALE={results.scale}"
    return (
        f"<p>Everything on this page is computed from the files under results/{escape(results.scale)}; "
        f"<code>make reproduce{own} EXPERIMENT=all</code> makes them again, <code>make report</code> this page. The versions of "
        "all packages are those of requirements.lock at the commits named; the result files name no machine. Training seconds are of "
        "the last training of an arm (of annotators: theirs) and depend on the machine. An experiment shares runs with "
        "others; the last line counts each once.</p>\n"
        + table(COLUMNS, [*lines, total], label="Runs of every experiment", kinds=KINDS)
    )


def _line(name: str, rows: pd.DataFrame) -> list[str]:
    commits = sorted({str(commit) for commit in rows["git_commit"].dropna()})
    return [
        escape(name),
        f"{rows['run_key'].nunique():,}",
        escape(ranges(sorted({int(seed) for seed in rows["seed"]}))),
        f"{int(rows['n_eval'].sum()):,}",
        f"{rows['train_seconds'].astype(float).sum():,.0f}",
        escape(", ".join(commits) or "not recorded"),
    ]
