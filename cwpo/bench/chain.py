"""Measures the seconds and the peak memory of each stage of a run, in a temporary store."""

import tempfile
from collections.abc import Callable
from typing import Any

import pandas as pd

from cwpo.bench.measure import machine
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import distinct, expand
from cwpo.store.store import Store


def chain(cfg: Any, say: Callable[[str], None]) -> pd.DataFrame:
    """Runs scripts/run.py with the overrides cfg.chain; returns a row per stage, with its seconds and peak MiB."""
    with tempfile.TemporaryDirectory() as folder:
        arms = expand([*cfg.chain, f"store={folder}", f"device={cfg.device}"])
        run_arms(arms, Settings.of(arms[0].cfg), title="chain")
        store = Store(folder)
        rows = [store.manifest(node.stage.name, node.key) | {"stage": node.name} for node in distinct(arms)]
    table = pd.DataFrame(rows)[["stage", "seconds", "peak_memory_mb"]].assign(
        overrides=" ".join(cfg.chain), **machine(cfg)
    )
    say(f"chain: {len(table)} stages in {table['seconds'].sum():.1f} s")
    return table
