"""Finds every problem of a configuration at once, before any work: first of single values, then between keys."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cwpo.checks.arms import arm_problems
from cwpo.checks.checkpoints import checkpoint_problems
from cwpo.checks.reading import Key, items, keys_of, read
from cwpo.config.rules import LARGEST, endpoint
from cwpo.config.schema import Config
from cwpo.errors import InputError, Problem
from cwpo.plain import CONTROL, visible

Check = Callable[[Any], Iterable[Problem]]


def check_config(cfg: DictConfig, ask_hub: bool = True) -> Config:
    """Returns the typed configuration of a run. Raises InputError with every problem. Reads no data and no weights.

    With ask_hub=False it reads no configs of models, and asks the hub nothing.
    """
    config, problems = _checked(cfg)
    problems = first_by_key(problems, checkpoint_problems(config, ask_hub and not problems))
    if problems:
        raise InputError(problems)
    return config


def setting_problems(cfg: DictConfig) -> list[str]:
    """Returns every problem of a run's configuration as text, except those of the checkpoints that it names."""
    try:
        return list(map(str, _checked(cfg)[1]))
    except InputError as error:
        return error.problems


def check_settings(cfg: DictConfig, schema: type, check: Check = lambda cfg: ()) -> list[Problem]:
    """Returns the problems of a command's configuration: of single values, and those that `check` finds between keys.

    Raises InputError if the configuration cannot be read.
    """
    values = read(cfg, schema, partial(OmegaConf.to_container, resolve=True))
    return first_by_key(value_problems(values, schema), check(cfg))


def first_by_key(*groups: Iterable[Problem]) -> list[Problem]:
    """Returns the problems of all groups, without those about a key that an earlier group already reports."""
    problems: list[Problem] = []
    for group in groups:
        named = {problem.key for problem in problems}
        problems += [problem for problem in group if problem.key not in named]
    return problems


def value_problems(values: Mapping[str, Any], schema: type, prefix: str = "") -> Iterator[Problem]:
    """Yields a Problem for each value that breaks a rule of its field in `schema`, or a rule for all values."""
    for name, key in keys_of(schema).items():
        value, path = values[name], f"{prefix}{name}"
        if key.section is not None:
            yield from value_problems(value, key.section, f"{path}.")
            continue
        for at, each in items(value, path):
            reason = _reason(each, key, at)
            if reason is not None:
                yield Problem(at, f"{at}={_shown(each)} {reason}")


def _checked(cfg: DictConfig) -> tuple[Config, list[Problem]]:
    config = read(cfg, Config, OmegaConf.to_object)
    return config, first_by_key(value_problems(asdict(config), Config), arm_problems(config))


def _reason(value: Any, key: Key, path: str) -> str | None:
    """Returns what is wrong with a value, in words that follow `key=value ` in a message; None if it is valid."""
    if isinstance(value, bool) or value is None or value == "???":
        return None
    if isinstance(value, str):
        if not value.strip():
            return "is blank; give it a value" + (f", or {path}=null" if key.optional else "")
        if CONTROL.search(value) or "\n" in value:
            return "holds control characters, which no name or path here can have"
    if value == key.default:
        return None
    reasons = (reason for rule in key.rules if (reason := rule(value)) is not None)
    if reason := next(reasons, None):
        return reason
    if not isinstance(value, str):
        return _beyond(value)
    advice = "download it and name the file or folder, or give a hub id"
    return f"is an address; {advice}" if "://" in value and endpoint not in key.rules else None


def _beyond(value: float) -> str | None:
    if abs(value) <= LARGEST:
        return None
    bound = f"at most {LARGEST:,}" if value > 0 else f"at least -{LARGEST:,}"
    return f"is beyond all bounds; it must be {bound}" if value == value else "is not a number"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return visible(value).replace("\n", "\\n") if value.strip() else repr(value)
    text = str(value)
    return text if len(text) <= 30 else re.sub(r"^(.{12}).*$", rf"\1… ({len(text)} digits)", text)
