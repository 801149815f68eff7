"""Measures in about a minute this machine's floating-point operations per second, from which plans estimate times."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from cwpo.bench.measure import machine, run_side, set_up
from cwpo.bench.workloads import WORKLOADS
from cwpo.planning.calibration import Calibration, Rate

SIZES = ("lora_125m", "lora_1_3b")  # the measured workloads; without GPUs, or if one has less than ROOM, only the first
ROOM = 8.0  # GiB of GPU memory that the larger model needs
PAIRS, BATCH = 512, 64  # 8 optimiser steps


def calibrate(
    store: str | Path,
    say: Callable[[str], None],
    *,
    device: str = "auto",
    sizes: Sequence[str] | None = None,
    pairs: int = PAIRS,
) -> Path:
    """Measures operations per second of LoRA training, scoring, sampling; returns the path of their file in `store`."""
    from cwpo.planning.preflight.memory import gpus

    cfg = SimpleNamespace(device=device, threads=None, token_budget=8192, data=None, tokenizer=None)
    rates = []
    for name in sizes or (SIZES if min(gpus(), default=0) >= ROOM else SIZES[:1]):
        rates.append(_rate(name, cfg, pairs))
        shown = ", ".join(f"{kind} {value / 1e12:.3g}" for kind, value in vars(rates[-1]).items())
        say(f"{name}, parameters and operations per second in units of 10^12: {shown}")
    return Calibration(machine(cfg)["device"], rates).write(Path(store))


def _rate(name: str, cfg: SimpleNamespace, pairs: int) -> Rate:
    """Returns a workload's operations per second: 4 per token and parameter in training, 2 in scoring and sampling."""
    batch = min(BATCH, pairs)
    with tempfile.TemporaryDirectory() as folder:
        job, tokens = set_up(WORKLOADS[name], cfg, Path(folder), pairs)
        job |= {"batch_size": batch, "prompts": batch, "new_tokens": 64}
        trained = run_side(job | {"side": "cwpo"})
        read = run_side(job | {"side": "inference"})
    size = trained["parameters"]
    return Rate(
        size,
        training=4 * size * tokens["useful"] * batch / pairs / trained["step_seconds"],
        scoring=2 * size * tokens["useful"] / read["scoring_seconds"],
        sampling=2 * size * read["sampling_count"] / read["sampling_seconds"],
    )
