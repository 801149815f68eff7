"""Runs the measurements of scripts/benchmark.py, and writes CSV files and a page to results/benchmark/."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.bench.annotation import annotation
from cwpo.bench.chain import chain
from cwpo.bench.measure import compare, inference
from cwpo.bench.sides import WARM
from cwpo.pages import markdown_records
from cwpo.runtime import quiet_libraries

NAMES = {
    "cwpo": "cwpo",
    "trl_default": "TRL, defaults",
    "trl_best": "TRL, best",
    "trl_kept": "TRL, best, freed memory kept",
}
TRAINING = {
    "workload": "{workload}",
    "side": "{side}",
    "pairs": "{pairs}",
    "a step": "{batch_size}",
    "runs": "{runs}",
    "seconds": "{seconds:.2f}",
    "times cwpo's": "{times_slower:.2f}",
    "a steady step, s": "{step_seconds:.3g}",
    "steps, times cwpo's": "{steps_slower:.2f}",
    "tokens/s": "{tokens_per_second:,.0f}",
    "peak MiB": "{peak_memory_mb:,.0f}",
    "cwpo's memory / theirs": "{memory_share:.0%}",
    "of peak": "{share_of_matmul_peak:.0%}",
}
ANNOTATION = {
    "pairs": "{pairs:,}",
    "seconds": "{seconds:.1f}",
    "pairs/s": "{rate:,.0f}",
    "peak MiB": "{peak_memory_mb:,.0f}",
}
INFERENCE = {
    "workload": "{workload}",
    "prompts": "{prompts}",
    "new tokens": "{new_tokens}",
    "sampling, s": "{sampling_seconds:.2f}",
    "transformers' own, s": "{transformers_sampling_seconds:.2f}",
    "times its own": "{times_transformers:.2f}",
    "scored tokens/s": "{scored_tokens_per_second:,.0f}",
}
CHAIN = {"stage": "{stage}", "seconds": "{seconds:.1f}", "peak MiB": "{peak_memory_mb:,.0f}"}
STEADY = ("a steady step, s", "steps, times cwpo's")


def benchmark(cfg: Any) -> None:
    """Runs the measurements that `cfg` lists; writes a CSV file per kind and benchmark.md to cfg.results/benchmark."""
    quiet_libraries()
    say = functools.partial(print, flush=True)
    folder = Path(cfg.results) / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in cfg.workloads:
        written.append(_keep(folder / "training.csv", compare(name, cfg, say), "workload"))
    for name in cfg.inference:
        written.append(_keep(folder / "inference.csv", inference(name, cfg, say), "workload"))
    if cfg.chain:
        written.append(_keep(folder / "chain.csv", chain(cfg, say), "overrides"))
    if cfg.annotation:
        written.append(_keep(folder / "annotation.csv", annotation(cfg, say), "pairs"))
    written.append(write_report(folder))
    print("written:", *dict.fromkeys(map(str, written)), sep="\n  ")


def _keep(path: Path, table: pd.DataFrame, key: str) -> Path:
    """Adds the table to the CSV file `path`; removes old rows whose value in column `key` also occurs in the table."""
    if path.is_file():
        old = pd.read_csv(path)
        table = pd.concat([old[~old[key].isin(table[key])], table], ignore_index=True)
    table.to_csv(path, index=False, float_format="%.6g")
    return path


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per workload and side: medians over runs, time ratios side / cwpo, memory ratio cwpo / side."""
    columns = "seconds step_seconds preparation_seconds tokens_per_second peak_memory_mb share_of_matmul_peak".split()
    runs = runs.assign(step_seconds=runs.get("step_seconds", float("nan")))  # older files lack this column
    grouped = runs.groupby(["workload", "side"], sort=False)
    table = grouped[columns].median().reset_index()
    table["runs"] = grouped.size().to_numpy()
    ours = table[table["side"] == "cwpo"].set_index("workload")
    table["times_slower"] = table["seconds"] / table["workload"].map(ours["seconds"])
    table["steps_slower"] = table["step_seconds"] / table["workload"].map(ours["step_seconds"])
    table["memory_share"] = table["workload"].map(ours["peak_memory_mb"]) / table["peak_memory_mb"]
    return table


def write_report(folder: Path) -> Path:
    """Writes benchmark.md from the CSV files in `folder`, and returns its path."""
    parts = ["# Speed"]
    sections = {"training": _training, "inference": _inference, "annotation": _annotation, "chain": _chain}
    for name, section in sections.items():
        if (folder / f"{name}.csv").is_file():
            parts.append(section(pd.read_csv(folder / f"{name}.csv")))
    path = folder / "benchmark.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _machines(runs: pd.DataFrame) -> str:
    """Returns lines that say which workloads ran on which device with which software versions."""
    where = ["device", "torch", "transformers", "git_commit"]
    runs = runs.assign(git_commit=runs["git_commit"].astype(object).fillna("unknown"))
    return "\n".join(
        f"{', '.join(part['workload'].unique())}: {device}; torch {torch}, transformers {transformers}, commit {commit}."
        for (device, torch, transformers, commit), part in runs.groupby(where, sort=False)
    )


def _training(runs: pd.DataFrame) -> str:
    sizes = runs.groupby("workload")[["pairs", "batch_size"]].first()
    table = summary(runs).join(sizes, on="workload").assign(side=lambda rows: rows["side"].map(NAMES))
    known = table["step_seconds"].notna().all()
    columns = {name: text for name, text in TRAINING.items() if known or name not in STEADY}
    steady = f" A steady step is the median of those after the first {WARM}." if known else ""
    return f"""{_machines(runs)}

## Training beside TRL

Medians over runs by turns, each in a process of its own; the same model, pairs, batch and dtype on every side.
Tokens are those of prompt, chosen and rejected response, each counted once. The last column is the share of the
machine's matrix-multiply peak, measured in the same minutes, that the necessary operations make up.{steady}

{markdown_records(columns, table.to_dict("records"), left=2)}"""


def _annotation(sizes: pd.DataFrame) -> str:
    rows = sizes.assign(rate=sizes["pairs"] / sizes["seconds"]).sort_values("pairs").to_dict("records")
    return f"""## Annotating many pairs

The annotate stage on the synthetic world's pairs, a process for each size.

{markdown_records(ANNOTATION, rows, left=0)}"""


def _inference(rows: pd.DataFrame) -> str:
    return f"""## Sampling and scoring

Prompts in one batch, sampled by cwpo and by transformers' own `generate(do_sample=True)`; pairs scored as references.

{markdown_records(INFERENCE, rows.to_dict("records"))}"""


def _chain(stages: pd.DataFrame) -> str:
    parts = ["## The chain end to end"]
    for (words, device), part in stages.groupby(["overrides", "device"], sort=False):
        parts.append(f"`{words}` on {device}: {part['seconds'].sum():,.1f} s.")
        parts.append(markdown_records(CHAIN, part.to_dict("records")))
    return "\n\n".join(parts)
