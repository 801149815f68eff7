"""Everything wrong with the configuration of a command other than a run, found before any work and reported at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cwpo.config import CONF
from cwpo.errors import InputError
from cwpo.leaf_checks import unreadable, with_leaf_problems
from cwpo.validation import device_problems, nearest, training_problems

# What the keys of all these commands must be where they have them, nulls aside.
AT_LEAST = {
    **dict.fromkeys(("jobs", "threads", "repeats", "members", "curve_folds", "most", "batch_size"), 1),
    **dict.fromkeys(("max_tokens", "max_new_tokens", "token_budget", "trl_micro", "pairs", "annotation"), 1),
    **dict.fromkeys(("seed", "seeds", "holdout_above"), 0),
    "folds": 2,
}
POSITIVE = ("temperature", "head_std", "gpu_gib", "disk_gib")
FILLED_IN = {"own_results": ("annotate.", "align.")}  # groups whose required keys the command sets itself
CHOICES = {"ties": ("drop", "soft"), "weighting": ("uniform", "c1", "c2", "c3", "c4")}


def check_command(cfg: DictConfig, command: str) -> None:
    """Raise InputError with every problem of a composed conf/command/<command>.yaml. Reads no data and no weights."""
    none = unreadable(cfg, FILLED_IN.get(command, ()))
    if none:
        raise InputError(none)
    problems = OWN[command](cfg) if command in OWN else []
    told = {problem.partition("=")[0] for problem in problems}
    problems += [problem for problem in _values(cfg) if problem.partition("=")[0] not in told]
    problems = with_leaf_problems(cfg, problems)
    if problems:
        raise InputError(problems)


def _values(cfg: DictConfig) -> list[str]:
    problems = []
    for key, low in AT_LEAST.items():
        problems += [
            f"{at}={value} must be at least {low}" for at, value in _items(cfg, key) if not value >= low
        ]
    for key in POSITIVE:
        problems += [
            f"{at}={value} must be positive" for at, value in _items(cfg, key) if not 0 < value < math.inf
        ]
    for key, valid in CHOICES.items():
        if key in cfg and cfg[key] not in valid:
            problems.append(f"{key}={cfg[key]} is unknown; {nearest(cfg[key], valid)}")
    if "device" in cfg:
        problems += device_problems(cfg.device)
    if "training" in cfg:
        problems += training_problems(cfg, "training")
    return problems


def _items(cfg: DictConfig, key: str) -> list[tuple[str, Any]]:
    """(dotted key, number) of a number, or of each number of a list or mapping; none of a null."""
    value = OmegaConf.to_container(cfg, resolve=True).get(key)  # type: ignore[union-attr]
    if isinstance(value, dict):
        return [(f"{key}.{name}", item) for name, item in value.items()]
    if isinstance(value, list):
        return [(f"{key}.{index}", item) for index, item in enumerate(value)]
    return [] if value is None else [(key, value)]


def _reproduce(cfg: DictConfig) -> list[str]:
    from cwpo.launchers import choices
    from cwpo.runner import experiments, seeds_of

    problems = _raised(lambda: experiments(cfg.experiment)) if cfg.experiment.strip() else []
    problems += _raised(lambda: seeds_of(cfg.experiment, OmegaConf.to_container(cfg).get("seeds")))  # type: ignore[union-attr]
    if cfg.launcher is not None and cfg.launcher.strip() and cfg.launcher not in choices():
        problems.append(f"launcher={cfg.launcher} is unknown; {nearest(cfg.launcher, choices())}")
    scales = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
    if cfg.scale.strip() and cfg.scale not in scales:
        problems.append(f"scale={cfg.scale} is unknown; {nearest(cfg.scale, scales)}")
    return problems


def _annotate(cfg: DictConfig) -> list[str]:
    from cwpo.own.checks import check_annotate

    return _raised(lambda: check_annotate(cfg))


def _compare(cfg: DictConfig) -> list[str]:
    from cwpo.own.checks import check_compare

    return _raised(lambda: check_compare(cfg))


def _own_results(cfg: DictConfig) -> list[str]:
    groups = ("annotate.annotator.training", "align.sft", "align.alignment")
    return [problem for group in groups for problem in training_problems(cfg, group)]


def _benchmark(cfg: DictConfig) -> list[str]:
    from cwpo.bench.measure import check

    return _raised(lambda: check(cfg))


def _raised(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except InputError as error:
        return error.problems
    return []


OWN: dict[str, Callable[[DictConfig], list[str]]] = {
    "reproduce": _reproduce,
    "preflight": _reproduce,
    "annotate": _annotate,
    "compare": _compare,
    "own_results": _own_results,
    "benchmark": _benchmark,
}
