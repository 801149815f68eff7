"""Checks the settings for where and how a run computes: processes, LoRA, sampling engine, optional packages."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cwpo.checks.reading import wrong
from cwpo.config.schema import Config, TrainingConfig, trainings
from cwpo.errors import Problem
from cwpo.runtime import needs_bitsandbytes


def machine_problems(cfg: Config) -> Iterator[Problem]:
    """Yields the problems of folders, processes, LoRA, the sampling engine and optional packages in `cfg`."""
    for key in ("store", "results"):
        if Path(getattr(cfg, key)).expanduser().is_file():
            yield wrong(cfg, key, "is a file; name a folder")
    if cfg.launch == "none" and cfg.processes > 1:
        yield wrong(cfg, "processes", "needs launch=ddp or launch=fsdp")
    if cfg.launch != "none" and cfg.jobs > 1:
        yield wrong(cfg, "launch", "gives a stage all GPUs of the machine, so only one can run at a time: use jobs=1")
    yield from lora_problems(cfg.lora)
    yield from _engine(cfg)
    for key, training in trainings(cfg).items():
        yield from _shares(cfg, key, training)
    yield from _bitsandbytes(cfg)


def lora_problems(lora: Any) -> Iterator[Problem]:
    if lora.enabled and find_spec("peft") is None:
        why = "needs the package peft; pip install 'cwpo[lora]', or use lora.enabled=false"
        yield Problem("lora.enabled", f"lora.enabled=true {why}")
    if lora.enabled and lora.base_dtype != "float32" and lora.save == "merged":
        why = f"with lora.base_dtype={lora.base_dtype}: alignment would start from merged weights rounded to 16 bits,"
        why = f"{why} which lose SFT's small updates; use lora.save=adapters"
        yield Problem("lora.save", f"lora.save=merged {why}")


def _engine(cfg: Config) -> Iterator[Problem]:
    merged = cfg.lora.save == "merged" or cfg.generation.engine == "vllm"
    if cfg.lora.enabled and merged and cfg.generation.precision != "float32":
        why = f"with lora.enabled=true, lora.save={cfg.lora.save} and generation.engine={cfg.generation.engine}: merged"
        fix = "use generation.precision=float32, or lora.save=adapters with generation.engine=transformers"
        yield wrong(cfg, "generation.precision", f"{why} weights in 16 bits lose small updates; {fix}")
    if cfg.generation.engine != "vllm":
        return
    if cfg.online.reward != "none":
        why = "samples from models that are saved; an online arm samples from the one under training: use"
        yield wrong(cfg, "generation.engine", f"{why} generation.engine=transformers")
        return
    from cwpo.models.vllm_engine import vllm_problem  # imports transformers

    if problem := vllm_problem(cfg.generation.python):
        yield Problem("generation.engine", problem)


def _shares(cfg: Config, key: str, training: TrainingConfig) -> Iterator[Problem]:
    """Yields a problem if the processes cannot share a batch of `training` evenly. `key`: config key of `training`."""
    size, processes = training.batch_size, cfg.processes
    if cfg.launch == "none" or processes < 1 or size < 1:
        return
    # With a token budget, ddp fills micro-batches by tokens. fsdp splits the weights, and always fills them by rows.
    by_rows = training.micro_batch_size and (cfg.launch != "ddp" or cfg.token_budget is None)
    rows = training.micro_batch_size if by_rows else 1
    if rows and size % (rows * processes):
        micro = f" x {key}.micro_batch_size={rows}" if rows > 1 else ""
        yield wrong(cfg, f"{key}.batch_size", f"is not a multiple of processes={processes}{micro}")


def _bitsandbytes(cfg: Config) -> Iterator[Problem]:
    wanted = [key for key, each in trainings(cfg).items() if needs_bitsandbytes(each.optimizer)]
    # fsdp uses plain AdamW in place of a bitsandbytes optimiser
    if not wanted or cfg.launch == "fsdp" or find_spec("bitsandbytes") is not None:
        return
    import torch  # slow to import, and needed for this optimiser only

    if cfg.device.startswith(("auto", "cuda")) and torch.cuda.is_available():
        key = f"{wanted[0]}.optimizer"
        yield wrong(cfg, key, f"needs the package bitsandbytes; pip install 'cwpo[gpu]', or use {key}=adamw_torch")
