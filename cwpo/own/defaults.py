"""Fills in settings that the user left open, from the machine and the model: threads, token budget, learning rates."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.commands import AnnotateConfig
from cwpo.config.schema import CONF
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.training.rates import parameters_of, rate_for

CPU_TOKENS, GPU_TOKENS = 2_048, 16_384
PAPER_RATES = {"annotator.training": 1e-5, "sft": 1e-5, "alignment": 5e-6}  # the rates of Tables 7 to 9


def cores() -> int:
    """Returns OMP_NUM_THREADS if it is a positive number, else the number of cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_settings() -> Any:
    """Returns the settings of scripts/annotate.py where the user gives none."""
    file: Any = OmegaConf.load(CONF / "command" / "annotate.yaml")
    own = OmegaConf.masked_copy(file, [key for key in file if key not in ("defaults", "hydra")])
    return OmegaConf.merge(OmegaConf.structured(AnnotateConfig), own)


def begin(cfg: Any, check: Callable[[Any], None]) -> tuple[str, Path]:
    """Calls check(cfg), sets the number of threads, and returns the device and the absolute path of cfg.out."""
    quiet_libraries()
    check(cfg)
    use_threads(cfg.threads or cores())
    return pick_device(cfg.device), Path(cfg.out).expanduser().resolve()


def with_defaults(cfg: Any, device: str, say: Callable[[str], None]) -> Any:
    """Fills in the token budget and learning rates that are None, prints the new rates, returns the new settings."""
    cfg = OmegaConf.merge(cfg, {})
    if cfg.token_budget is None:
        cfg.token_budget = CPU_TOKENS if device == "cpu" else GPU_TOKENS
    keys = [f"{name}.learning_rate" for name in PAPER_RATES]
    open_keys = [key for key in keys if OmegaConf.select(cfg, key, default=0) is None]
    if cfg.model is None or not open_keys:
        return cfg
    parameters = parameters_of(cfg.model, cfg.revision)
    for key in open_keys:
        OmegaConf.update(cfg, key, rate_for(PAPER_RATES[key.removesuffix(".learning_rate")], parameters))
    chosen = ", ".join(f"{key}={OmegaConf.select(cfg, key):g}" for key in open_keys)
    say(f"{cfg.model} has {parameters:,} parameters, so {chosen}")
    return cfg
