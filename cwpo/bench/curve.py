"""A training as the paper sets it up, CW-DPO with a weight for every pair, for some steps: its loss curve, speed and memory."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.bench.measure import machine, numerical_type, run_side, set_up
from cwpo.bench.workloads import WORKLOADS
from cwpo.pages import markdown_records

SHOWN = ["step", "loss", "rewards/accuracies", "rewards/margins", "weights/mean"]
COLUMNS = {
    "workload": "{workload}",
    "parameters": "{millions:,.1f} M",
    "dtype": "{dtype}",
    "LoRA": "{lora}",
    "steps": "{steps}",
    "pairs a step": "{batch_size}",
    "tokens/s": "{tokens_per_second:,.0f}",
    "peak MiB": "{peak_memory_mb:,.0f}",
    "loss, first and last tenth": "{loss}",
}


def curve(name: str, cfg: Any, say: Callable[[str], None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for the whole training of a workload, and one for each of its `curve_steps` optimiser steps."""
    workload = WORKLOADS[name]
    pairs, batch = cfg.pairs[name], min(cfg.batch_size, cfg.pairs[name])
    with tempfile.TemporaryDirectory() as folder:
        job, tokens = set_up(workload, cfg, Path(folder), pairs)
        draw = random.Random(0)
        job |= {"batch_size": batch, "lora": workload.lora, "dtype": numerical_type(workload, cfg)}
        job |= {"side": "curve", "steps": cfg.curve_steps, "weights": [draw.random() for _ in range(pairs)]}
        done = run_side(job)
    steps = pd.DataFrame(done.pop("curve"))[SHOWN].assign(workload=name)
    epochs = cfg.curve_steps * batch / pairs
    row = {
        "workload": name,
        "dtype": job["dtype"],
        "lora": workload.lora,
        "steps": cfg.curve_steps,
        "batch_size": batch,
    }
    row |= {
        "parameters": done["parameters"],
        "seconds": done["seconds"],
        "peak_memory_mb": done["peak_memory_mb"],
    }
    row["tokens_per_second"] = tokens["useful"] * epochs / done["seconds"]
    say(
        f"{name}: {cfg.curve_steps} steps of CW-DPO in {done['seconds']:.1f} s, {row['tokens_per_second']:,.0f} tokens/s, "
        f"{done['peak_memory_mb']:,.0f} MiB, loss {steps['loss'].iloc[0]:.4f} to {steps['loss'].iloc[-1]:.4f}"
    )
    return pd.DataFrame([row]).assign(**machine(cfg)), steps


def curve_section(trainings: pd.DataFrame, steps: pd.DataFrame) -> str:
    """The trainings as a section of benchmark.md; losses are means of the first and last tenth of the steps."""
    rows = trainings.to_dict("records")
    for row in rows:
        loss = steps[steps["workload"] == row["workload"]]["loss"]
        tenth = max(1, len(loss) // 10)
        row["loss"] = f"{loss.iloc[:tenth].mean():.4f}, {loss.iloc[-tenth:].mean():.4f}"
        row |= {"lora": "yes" if row["lora"] else "no", "millions": row["parameters"] / 1e6}
    devices = [
        f"{r.workload}: {r.device}, torch {r.torch}, commit {r.git_commit}." for r in trainings.itertuples()
    ]
    return "\n".join(
        [
            "## CW-DPO as in Table 8",
            "",
            "Random weights, a weight drawn for every pair; ![loss](curve.png)",
            "",
            markdown_records(COLUMNS, rows),
            "",
            *devices,
        ]
    )


def draw(steps: pd.DataFrame, path: Path) -> Path:
    """Loss over optimiser steps, a line for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, part in steps.groupby("workload", sort=False):
        axis.plot(part["step"], part["loss"], label=name, linewidth=1)
    axis.set_xlabel("optimiser step")
    axis.set_ylabel("weighted DPO loss")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
