"""Everything wrong with the configuration of a command other than a run, found before any work and reported at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cwpo.checks.leaves import unreadable, with_leaf_problems
from cwpo.checks.settings import device_problems, nearest, training_problems
from cwpo.config.schema import CONF
from cwpo.errors import InputError

# Sections that are another command's settings, of which the command itself sets what is required.
INNER = {"own_results": ("annotate.", "align.")}
# What the keys of all these commands must be where they have them, nulls aside.
AT_LEAST = {
    **dict.fromkeys(("jobs", "threads", "repeats", "members", "curve_folds", "most", "batch_size"), 1),
    **dict.fromkeys(("max_tokens", "max_new_tokens", "token_budget", "trl_micro", "pairs", "annotation"), 1),
    **dict.fromkeys(("seed", "seeds", "holdout_above", "older_than_days"), 0),
    **dict.fromkeys(("train_pairs", "test_pairs", "align_pairs", "align_test_pairs", "align_response"), 2),
    "align_seeds": 1,
    "folds": 2,
}
POSITIVE = ("temperature", "head_std", "gpu_gib", "disk_gib")
CHOICES = {"ties": ("drop", "soft"), "weighting": ("uniform", "c1", "c2", "c3", "c4")}


def check_command(cfg: DictConfig, command: str) -> None:
    """Raise InputError with every problem of a composed conf/command/<command>.yaml. Reads no data and no weights."""
    none = unreadable(cfg, ("out",) if cfg.get("show") is not None else INNER.get(command, ()))
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
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    for key, low in AT_LEAST.items():
        problems += [
            f"{at}={value} must be at least {low}" for at, value in _items(plain, key) if not value >= low
        ]
    for key in POSITIVE:
        problems += [
            f"{at}={value} must be positive" for at, value in _items(plain, key) if not 0 < value < math.inf
        ]
    for key, valid in CHOICES.items():
        if key in cfg and cfg[key] not in valid:
            problems.append(f"{key}={cfg[key]} is unknown; {nearest(cfg[key], valid)}")
    if "device" in cfg:
        problems += device_problems(cfg.device)
    if "training" in cfg:
        problems += training_problems(cfg, "training")
    return problems


def _items(plain: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    """(dotted key, number) of a number, or of each number of a list or mapping; none of a null."""
    value = plain.get(key)
    if isinstance(value, dict):
        return [(f"{key}.{name}", item) for name, item in value.items()]
    if isinstance(value, list):
        return [(f"{key}.{index}", item) for index, item in enumerate(value)]
    return [] if value is None else [(key, value)]


def _reproduce(cfg: DictConfig) -> list[str]:
    from cwpo.execution.cluster import choices
    from cwpo.pipeline.experiments import experiments, seeds_of

    problems = _raised(lambda: experiments(cfg.experiment)) if cfg.experiment.strip() else []
    problems += _raised(lambda: seeds_of(cfg.experiment, OmegaConf.to_container(cfg).get("seeds")))  # type: ignore[union-attr]
    launcher = cfg.get("launcher")  # preflight, which starts nothing, has none
    if launcher is not None and launcher.strip() and launcher not in choices():
        problems.append(f"launcher={launcher} is unknown; {nearest(launcher, choices())}")
    scales = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
    if cfg.scale.strip() and cfg.scale not in scales:
        problems.append(f"scale={cfg.scale} is unknown; {nearest(cfg.scale, scales)}")
    return problems


def _annotate(cfg: DictConfig) -> list[str]:
    from cwpo.own.checks import check_annotate

    return _raised(lambda: check_annotate(cfg))


def _align(cfg: DictConfig) -> list[str]:
    from cwpo.own.checks import check_align

    return _raised(lambda: check_align(cfg))


def _compare(cfg: DictConfig) -> list[str]:
    from cwpo.own.checks import check_compare

    return _raised(lambda: check_compare(cfg))


def _own_results(cfg: DictConfig) -> list[str]:
    from cwpo.bench.real_pairs import SOURCES
    from cwpo.own.checks import align_values, annotate_values

    problems = [
        f"sources.{index}={name} is unknown; {nearest(name, SOURCES)}"
        for index, name in enumerate(cfg.sources)
        if name not in SOURCES
    ]
    if cfg.strong not in cfg.models:
        problems.append(f"strong={cfg.strong} is none of models; {nearest(cfg.strong, cfg.models)}")
    return problems + annotate_values(cfg, "annotate.") + align_values(cfg, "align.")


def _report(cfg: DictConfig) -> list[str]:
    from cwpo.results import NAME

    if NAME.fullmatch(cfg.scale) and (Path(cfg.results).expanduser() / cfg.scale).is_dir():
        return []
    return [f"scale={cfg.scale} is no folder of results={cfg.results}; name one that runs have written to"]


def _store(cfg: DictConfig) -> list[str]:
    from cwpo.commands.store import ACTIONS

    if cfg.action in ACTIONS:
        return []
    what = "action= is required" if cfg.action is None else f"action={cfg.action} is unknown"
    return [f"{what}; {nearest(cfg.action, ACTIONS)}"]


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
    "report": _report,
    "annotate": _annotate,
    "align": _align,
    "compare": _compare,
    "own_results": _own_results,
    "store": _store,
    "benchmark": _benchmark,
}
