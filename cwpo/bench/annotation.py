"""Measures time and memory of annotating pairs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from cwpo.bench.measure import machine, run_side
from cwpo.data.sources import read_pairs

BASE = 5_000  # different pairs; larger tables repeat their texts


def write_pairs(path: Path, count: int) -> None:
    """Writes `count` pairs with different ids to the Parquet file `path`; their texts repeat after BASE pairs."""
    data = SimpleNamespace(source="world", world="harmless", pairs=BASE, test_pairs=0)
    frame = read_pairs(data, seed=0)[0][["prompt", "response_a", "response_b"]]
    table = frame.iloc[np.arange(count) % BASE].assign(pair_id=[f"{i:016x}" for i in range(count)])
    table.to_parquet(path, index=False, row_group_size=BASE)


def annotation(cfg: Any, say: Callable[[str], None]) -> pd.DataFrame:
    """Annotates pairs in a new process for each number in cfg.annotation; returns rows: pairs, seconds, peak MiB."""
    rows = []
    for count in cfg.annotation:
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder) / "pairs.parquet", count)
            answer = run_side({"side": "annotation", "folder": folder, "threads": cfg.threads or os.cpu_count()})
        rows.append({"pairs": count} | answer)
        say(f"annotating {count:,} pairs: {answer['seconds']:.1f} s, {answer['peak_memory_mb']:.0f} MiB")
    return pd.DataFrame(rows).assign(**machine(cfg))


def annotate(folder: Path) -> dict[str, float]:
    """Annotates folder/pairs.parquet with an untrained toy Bradley-Terry model; returns seconds and peak MiB."""
    from transformers import AutoModelForCausalLM

    from cwpo.data.toy import build_tokenizer
    from cwpo.models.annotator import new_annotator
    from cwpo.models.toy import toy_config
    from cwpo.runtime import peak_memory_mb
    from cwpo.stages.annotate import annotate_stage
    from cwpo.stages.base import Work
    from cwpo.tracking import Tracker

    tokenizer = build_tokenizer()
    AutoModelForCausalLM.from_config(toy_config("opt-32x1", tokenizer)).save_pretrained(folder / "backbone")
    model = new_annotator(folder / "backbone", None, pad_id=tokenizer.pad_token_id, head_std=0.01, seed=0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "out").mkdir()
    started = time.perf_counter()
    with Tracker(
        folder / "out", stage="annotate", key="", group="", config={}, wandb=None, wandb_dir=folder
    ) as tracker:
        work = Work(
            out=folder / "out",
            config=None,  # type: ignore[arg-type]
            parents={"prepare": folder, "train_annotator": folder},
            tracker=tracker,
            scratch=folder / "scratch",
        )
        annotate_stage("bt").run(work)
    return {"seconds": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}
