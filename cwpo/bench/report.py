"""The benchmark's command: rows, a table of ratios and a figure under results/benchmark/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from cwpo.bench.annotation import annotation
from cwpo.bench.curve import curve, curve_section, draw
from cwpo.bench.measure import compare, exponent, scaling
from cwpo.pages import markdown_records
from cwpo.runtime import quiet_libraries

NAMES = {
    "cwpo": "cwpo",
    "trl_default": "TRL, defaults",
    "trl_best": "TRL, best",
    "trl_kept": "TRL, best, freed memory kept",
}
COLORS = {"cwpo": "#0072B2", "trl_default": "#BBBBBB", "trl_best": "#777777", "trl_kept": "#E69F00"}
TRAINING = {
    "workload": "{workload}",
    "side": "{side}",
    "pairs": "{pairs}",
    "a step": "{batch_size}",
    "runs": "{runs}",
    "seconds": "{seconds:.2f}",
    "times cwpo's": "{times_slower:.2f}",
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
BAR = 0.2  # of the distance of two workloads


def benchmark(cfg: Any) -> None:
    """Measure what `cfg` asks for; write training.csv, scaling.csv, benchmark.md and the figures."""
    quiet_libraries()
    folder = Path(cfg.results) / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in cfg.workloads:
        written.append(_keep(folder / "training.csv", compare(name, cfg, _say), "workload"))
    if cfg.scaling:
        written.append(_keep(folder / "scaling.csv", scaling(cfg, _say), "axis"))
    for name in cfg.curve:
        training, steps = curve(name, cfg, _say)
        written.append(_keep(folder / "curves.csv", training, "workload"))
        written.append(_keep(folder / "curve_steps.csv", steps, "workload"))
    if cfg.annotation:
        written.append(_keep(folder / "annotation.csv", annotation(cfg, _say), "pairs"))
    written += write_report(folder)
    print("written:", *dict.fromkeys(map(str, written)), sep="\n  ")


def _say(text: str) -> None:
    print(text, flush=True)


def _keep(path: Path, table: pd.DataFrame, key: str) -> Path:
    """The file with its rows of the same `key` replaced, so that workloads may be measured one by one."""
    if path.is_file():
        old = pd.read_csv(path)
        table = pd.concat([old[~old[key].isin(table[key])], table], ignore_index=True)
    table.to_csv(path, index=False, float_format="%.6g")
    return path


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians of each workload and side, and how many times cwpo's they are (`times_slower`, `memory_share` = cwpo's / theirs)."""
    columns = "seconds preparation_seconds tokens_per_second peak_memory_mb share_of_matmul_peak".split()
    grouped = runs.groupby(["workload", "side"], sort=False)
    table = grouped[columns].median().reset_index()
    table["runs"] = grouped.size().to_numpy()
    ours = table[table["side"] == "cwpo"].set_index("workload")
    table["times_slower"] = table["seconds"] / table["workload"].map(ours["seconds"])
    table["memory_share"] = table["workload"].map(ours["peak_memory_mb"]) / table["peak_memory_mb"]
    return table


def write_report(folder: Path) -> list[Path]:
    """benchmark.md and the figures from the rows in `folder`."""
    parts = ["# Training speed beside TRL"]
    written = []
    if (folder / "training.csv").is_file():
        runs = pd.read_csv(folder / "training.csv")
        parts += [_machines(runs), _training(runs)]
        written.append(_bars(summary(runs), folder / "speed.png", _devices(runs)))
    if (folder / "scaling.csv").is_file():
        parts.append(_scaling(pd.read_csv(folder / "scaling.csv")))
    if (folder / "annotation.csv").is_file():
        parts.append(_annotation(pd.read_csv(folder / "annotation.csv")))
    if (folder / "curves.csv").is_file():
        steps = pd.read_csv(folder / "curve_steps.csv")
        parts.append(curve_section(pd.read_csv(folder / "curves.csv"), steps))
        written.append(draw(steps, folder / "curve.png"))
    path = folder / "benchmark.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [path, *written]


def _machines(runs: pd.DataFrame) -> str:
    """Where each workload ran, and with what."""
    where = ["device", "torch", "transformers", "git_commit"]
    return "\n".join(
        f"{', '.join(part['workload'].unique())}: {device}; torch {torch}, transformers {transformers}, commit {commit}."
        for (device, torch, transformers, commit), part in runs.groupby(where, sort=False)
    )


def _training(runs: pd.DataFrame) -> str:
    sizes = runs.groupby("workload")[["pairs", "batch_size"]].first()
    table = summary(runs).join(sizes, on="workload").assign(side=lambda rows: rows["side"].map(NAMES))
    return f"""Medians over runs by turns, each in a process of its own; the same model, pairs, batch and dtype on every side.
Tokens are those of prompt, chosen and rejected response, each counted once. The last column is the share of the
machine's matrix-multiply peak, measured in the same minutes, that the necessary operations make up.

{markdown_records(TRAINING, table.to_dict("records"), left=2)}"""


def _scaling(sizes: pd.DataFrame) -> str:
    lines = []
    for axis, part in sizes.groupby("axis", sort=False):
        points = ", ".join(f"{value:,.0f}: {s:.2f} s" for value, s in zip(part["value"], part["seconds"]))
        power = exponent(part["value"], part["seconds"])
        lines.append(f"- {axis}: {points}; seconds grow with the power {power:.2f}")
    return "\n".join(["## Cost against size", "", "cwpo alone, a two-layer model of width 64.", "", *lines])


def _annotation(sizes: pd.DataFrame) -> str:
    rows = sizes.assign(rate=sizes["pairs"] / sizes["seconds"]).sort_values("pairs").to_dict("records")
    return f"""## Annotating many pairs

The annotate stage on the synthetic world's pairs, a process for each size.

{markdown_records(ANNOTATION, rows, left=0)}"""


def _devices(runs: pd.DataFrame) -> str:
    devices = runs.groupby("device", sort=False)["workload"].unique()
    return "\n".join(f"{', '.join(names)}: {device}" for device, names in devices.items())


def _bars(table: pd.DataFrame, path: Path, devices: str) -> Path:
    """Tokens a second of every workload and side, as a share of cwpo's, with the numbers on the bars."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    workloads = list(dict.fromkeys(table["workload"]))
    figure, axes = plt.subplots(
        1, 2, figsize=(9, 0.9 + 1.2 * len(workloads)), layout="constrained", sharey=True
    )
    for axis, column, title, unit in (
        (axes[0], "tokens_per_second", "Useful tokens a second, relative to cwpo", "tokens/s"),
        (axes[1], "peak_memory_mb", "Peak memory, relative to cwpo", "MiB"),
    ):
        values = table.pivot(index="workload", columns="side", values=column).reindex(
            index=workloads, columns=[name for name in NAMES if name in set(table["side"])]
        )
        for side in values:
            _side(axis, values[side], values["cwpo"], side, unit)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(workloads)), workloads)
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4, frameon=False
    )
    figure.suptitle(f"Medians. {devices}", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _side(axis: Any, values: pd.Series, base: pd.Series, side: str, unit: str) -> None:
    """The bars of one side, one for each workload that it and cwpo have run."""
    look: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    for place, (value, ours) in enumerate(zip(values, base)):
        if pd.notna(value) and pd.notna(ours):
            at = place + BAR * (list(NAMES).index(side) - 1.5)
            label = NAMES[side] if place == 0 else None
            axis.barh(at, value / ours, 0.9 * BAR, color=COLORS[side], label=label)
            axis.annotate(f"{value:,.0f} {unit}", (value / ours, at), **look)
