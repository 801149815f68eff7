"""Whether the settings of where and how a run computes go together: processes, checkpoints, optimisers of bitsandbytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec

from omegaconf import DictConfig, OmegaConf

from cwpo.config.schema import LAUNCHES, SHARDED
from cwpo.runtime import PRECISIONS, needs_bitsandbytes

ENGINES = ("transformers", "vllm")


def machine_problems(cfg: DictConfig, trainings: Iterable[str]) -> list[str]:
    """Problems of the run-level keys; `trainings` are the dotted keys of the TrainingConfigs that count."""
    problems = []
    if cfg.launch not in LAUNCHES:
        return [f"launch={cfg.launch} is unknown; valid: {', '.join(LAUNCHES)}"]
    if cfg.processes < 1:
        problems.append(f"processes={cfg.processes} must be at least 1")
    if cfg.launch == "none" and cfg.processes > 1:
        problems.append(f"processes={cfg.processes} needs launch=ddp, fsdp or deepspeed")
    if cfg.launch != "none" and cfg.jobs > 1:
        problems.append(
            f"launch={cfg.launch} gives a stage all GPUs of the machine, so only one can run at a time: use jobs=1"
        )
    if cfg.launch == "deepspeed" and find_spec("deepspeed") is None:
        problems.append("launch=deepspeed needs the package deepspeed; install it, or use launch=fsdp")
    if cfg.checkpoint_minutes is not None and not 0 < cfg.checkpoint_minutes < math.inf:
        problems.append(f"checkpoint_minutes={cfg.checkpoint_minutes} must be positive, or null for never")
    if cfg.checkpoint_steps is not None and cfg.checkpoint_steps < 1:
        problems.append(f"checkpoint_steps={cfg.checkpoint_steps} must be at least 1, or null for never")
    problems += [*_engine(cfg), *_plan(cfg)]
    for group in trainings:
        problems += _shares(cfg, group)
    return problems + _bitsandbytes(cfg, trainings)


def _plan(cfg: DictConfig) -> list[str]:
    plan = cfg.plan
    problems = [
        f"plan.{key}={plan[key]} must be in (0, 1]"
        for key in ("utilisation", "generation_utilisation")
        if not 0 < plan[key] <= 1
    ]
    if plan.tflops is not None and not 0 < plan.tflops < math.inf:
        problems.append(f"plan.tflops={plan.tflops} must be positive, or null for no estimate")
    return problems


def _engine(cfg: DictConfig) -> list[str]:
    if cfg.generation.engine not in ENGINES:
        return [f"generation.engine={cfg.generation.engine} is unknown; valid: {', '.join(ENGINES)}"]
    if cfg.generation.precision not in PRECISIONS:
        return [f"generation.precision={cfg.generation.precision} is unknown; valid: {', '.join(PRECISIONS)}"]
    if cfg.lora.enabled and cfg.generation.precision != "float32":
        return [
            f"generation.precision={cfg.generation.precision} with lora.enabled=true: adapters are merged before sampling, and merged "
            "weights in 16 bits lose small updates; use generation.precision=float32"
        ]
    if cfg.generation.engine == "transformers":
        return []
    if cfg.online.reward != "none":
        return [
            "generation.engine=vllm samples from models that are saved; an online arm samples from the one under training: "
            "use generation.engine=transformers"
        ]
    from cwpo.models.vllm_engine import vllm_problem  # imports transformers

    problem = vllm_problem(cfg.generation.python)
    return [problem] if problem else []


def _shares(cfg: DictConfig, group: str) -> list[str]:
    """A batch that the processes cannot share evenly."""
    training = OmegaConf.select(cfg, group)
    size, processes = training.batch_size, cfg.processes
    if cfg.launch == "none" or processes < 1 or size < 1:
        return []
    micro = training.micro_batch_size
    # with a token budget, micro-batches are filled by tokens, but where weights are shared between processes
    rows = micro if micro and (cfg.launch != "ddp" or cfg.token_budget is None) else 1
    if size % (rows * processes):
        return [
            f"{group}.batch_size={size} is no multiple of processes={processes}"
            + (f" x {group}.micro_batch_size={micro}" if rows > 1 else "")
        ]
    return []


def _bitsandbytes(cfg: DictConfig, trainings: Iterable[str]) -> list[str]:
    wanted = {group: OmegaConf.select(cfg, group).optimizer for group in trainings}
    wanted = {group: name for group, name in wanted.items() if needs_bitsandbytes(name)}
    if cfg.launch in SHARDED:
        return []  # plain AdamW stands in
    if not wanted or find_spec("bitsandbytes") is not None or not cfg.device.startswith(("auto", "cuda")):
        return []
    import torch  # slow to import, so not for the default

    if not torch.cuda.is_available():
        return []
    group, name = next(iter(wanted.items()))
    return [
        f"{group}.optimizer={name} needs the package bitsandbytes; pip install 'cwpo[gpu]', or use {group}.optimizer=adamw_torch"
    ]
