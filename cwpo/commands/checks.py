"""Checks a command's configuration before any work. The checks of scripts/run.py are in cwpo.checks.settings."""

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cwpo.checks.settings import Check, check_settings
from cwpo.config.commands import COMMANDS
from cwpo.errors import InputError, Problem, nearest


def check_command(cfg: DictConfig, command: str, ask_hub: bool = True) -> None:
    """Raises InputError with all problems of `cfg`, composed from conf/command/<command>.yaml. Reads no data.

    With ask_hub=False, the models of annotate, align and compare are checked without the hub.
    """
    if command in ("annotate", "align", "compare"):  # these check themselves too, since they can be used from Python
        pkgutil.resolve_name(f"cwpo.own.checks:check_{command}")(cfg, ask_hub)
        return
    problems = check_settings(cfg, COMMANDS[command], RULES.get(command, lambda cfg: ()))
    if problems:
        raise InputError(problems)


def _experiments(cfg: Any) -> Iterator[Problem]:
    from cwpo.pipeline.experiments import experiments, seeds_of

    yield from _raised("experiment", lambda: experiments(cfg.experiment, cfg.scale))
    seeds = None if cfg.seeds is None else list(cfg.seeds)
    yield from _raised("seeds", lambda: seeds_of(cfg.experiment, seeds))


def _raised(key: str, check: Callable[[], object]) -> Iterator[Problem]:
    try:
        check()
    except InputError as error:
        yield from (Problem(key, text) for text in error.problems)


def _report(cfg: Any) -> Iterator[Problem]:
    if not (Path(cfg.results).expanduser() / cfg.scale).is_dir():
        why = "name a scale for which runs have written results"
        yield Problem("scale", f"scale={cfg.scale} has no folder in results={cfg.results}; {why}")


def _own_results(cfg: Any) -> Iterator[Problem]:
    if cfg.strong not in cfg.models:
        text = f"strong={cfg.strong} is not in models; {nearest(cfg.strong, cfg.models)}"
        yield Problem("strong", text)


def _benchmark(cfg: Any) -> Iterable[Problem]:
    from cwpo.bench.measure import problems

    return problems(cfg)


# Command -> check of its settings against each other and against files.
RULES: dict[str, Check] = {
    "reproduce": _experiments,
    "preflight": _experiments,
    "report": _report,
    "own_results": _own_results,
    "benchmark": _benchmark,
}
