"""Finds the arms of a command line, one for each configuration of a sweep, and the stages that each arm needs."""

import functools
import itertools
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.reading import wrong_type
from cwpo.checks.settings import check_config
from cwpo.config.commands import register
from cwpo.config.schema import CONF, Config
from cwpo.config.update_sizes import at_operating_point
from cwpo.errors import InputError
from cwpo.pipeline.graph import Node, nodes_of, wanted
from cwpo.runtime import rare_collections

UNKNOWN = "?"  # stands for the sections that a file of conf/ writes, where `_written` cannot tell them


@dataclass(frozen=True)
class Arm:
    """One configuration and its stages: `nodes` has all stages by name, `run` lists the stages to run, parents first.

    `point`: {key: value} of the keys that a sweep sets; a value is None if several values of its key give this arm.
    """

    cfg: Config
    nodes: dict[str, Node]
    run: list[Node]
    point: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(cfg: DictConfig, look: bool = True) -> "Arm":
        """Returns the arm of a composed configuration. Raises InputError with every problem. look: see of_checked."""
        return Arm.of_checked(check_config(cfg, ask_hub=look), look)

    @staticmethod
    def of_checked(cfg: Config, look: bool = True) -> "Arm":
        """Returns the arm of a valid configuration. look=False reads no checkpoint: the arm can be counted, not run."""
        cfg = at_operating_point(cfg)
        nodes = nodes_of(cfg, look)
        return Arm(cfg, nodes, wanted(nodes, cfg.until))

    def runs(self, name: str) -> bool:
        """Whether the stage `name` is to run. `nodes` also holds stages that `until` leaves out."""
        return any(node.name == name for node in self.run)

    @property
    def key(self) -> str:
        """The store key of the last stage; result files call it `run_key`. Arms with equal keys give equal results."""
        return self.run[-1].key


def expand(overrides: Sequence[str], seeds: Sequence[int] | None = None, look: bool = True) -> list[Arm]:
    """Returns the distinct arms of a run or sweep, in order; see `configurations` for `overrides` and `seeds`.

    Checks every configuration, asks the hub too, and raises InputError with the problems of all arms. look=False asks
    no hub and reads no checkpoint: the arms can be counted but not run.
    """
    arms: dict[str, Arm] = {}
    problems: dict[str, None] = {}
    with rare_collections():
        for cfg, values, point in configurations(overrides, seeds):
            try:
                set_values(cfg, values)
                arm = Arm.of(cfg, look)
                merge_points(arms.setdefault(arm.key, arm).point, point)
            except InputError as error:
                problems |= dict.fromkeys(error.problems)
    if problems:
        raise InputError(list(problems))
    return list(arms.values())


def merge_points(point: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Adds the values of `other`, a point that gives the same arm, to an arm's `point`; sets None where they differ."""
    for key, value in other.items():
        point[key] = value if point.get(key, value) == value else None


def plain_values(overrides: Sequence[Override]) -> dict[str, Any]:
    """Returns the values of overrides by key. Numbers, booleans and null keep their type; all else becomes text."""
    plain = (int, float, bool, type(None))
    return {o.key_or_group: o.value() if isinstance(o.value(), plain) else str(o.value()) for o in overrides}


def configurations(
    overrides: Sequence[str], seeds: Sequence[int] | None = None
) -> Iterator[tuple[DictConfig, tuple[Override, ...], dict[str, Any]]]:
    """Yields the configurations of a run or sweep in order, unchecked: (composition, values, {swept key: value}).

    The caller applies set_values(composition, values) before it takes the next item, which may reuse the composition.
    `overrides` are words of the command line; `key=1,2` sweeps over 1 and 2. The sweep in the experiment's file applies
    too, except to keys that `overrides` name. `seeds`, if given, replace the seeds of the command line and of the file.
    """
    one_choice(overrides)
    register()
    with composing():
        base, usual, fixed, axes = _axes(overrides, seeds)
        groups = {key: values for key, values in axes.items() if (CONF / key).is_dir()}
        choices = [dict(zip(groups, choice, strict=True)) for choice in itertools.product(*groups.values())]
        composed = list(zip(_compositions(base, usual, fixed, groups), choices, strict=True))
    parser = OverridesParser.create()
    points = {
        key: parser.parse_overrides([f"{key}={value}" for value in values])
        for key, values in axes.items()
        if key not in groups
    }
    # a mapping is merged into the composition's own, so each point needs a fresh copy of the composition
    merged = any(isinstance(value.value(), dict) for values in points.values() for value in values)
    for cfg, choice in composed:
        for values in _points(cfg, points):
            point = choice | plain_values(values)
            yield _copied(cfg) if merged else cfg, values, {key: point[key] for key in axes if key in point}


def _axes(
    overrides: Sequence[str], seeds: Sequence[int] | None
) -> tuple[DictConfig, dict[str, str], list[str], dict[str, list[str]]]:
    """Returns the composed configuration, {config group: its choice}, the fixed overrides, and {swept key: values}.

    `seeds` replace those of `overrides` and of the experiment; the key `seed` comes last. Raises InputError for a sweep
    over an interval, over no values, or over `experiment`.
    """
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # the loader finds the choices of glob(...)
    given = parser.parse_overrides(list(overrides))
    advice = "list some values, or search the interval with hydra/sweeper=optuna"
    if intervals := [o for o in given if o.is_interval_sweep()]:
        raise InputError([f"{o.input_line} has endlessly many values; {advice}" for o in intervals])
    fixed = [str(o.input_line) for o in given if not o.is_sweep_override()]
    base = compose("config", overrides=fixed, return_hydra_config=True)
    with open_dict(base):
        hydra = base.pop("hydra")
    params = hydra.sweeper.params or {}
    own = parser.parse_overrides([f"{key}={values}" for key, values in params.items()])
    named = {o.key_or_group for o in given}
    swept = [o for o in own if o.key_or_group not in named]
    swept += [o for o in given if o.is_sweep_override()]
    axes = {
        o.key_or_group: list(o.sweep_string_iterator()) if o.is_sweep_override() else [o.get_value_element_as_str()]
        for o in swept
    }
    if empty := [key for key, values in axes.items() if not values]:
        raise InputError([f"{key}= names no value to sweep over; list some, as in {key}=x,y" for key in empty])
    if "experiment" in axes:
        names = ",".join(axes["experiment"])
        raise InputError(
            f"experiment={names} names several sweeps; run one at a time, or all with make reproduce EXPERIMENT={names}"
        )
    if seeds is not None:
        fixed = [word for word in fixed if not word.startswith("seed=")]
        axes["seed"] = [str(seed) for seed in seeds]
    if "seed" in axes:
        axes["seed"] = axes.pop("seed")  # to the end: the seeds of an arm follow each other
    return base, hydra.runtime.choices, fixed, axes


def one_choice(overrides: Sequence[str]) -> None:
    """Raises InputError for a group of conf/ with a list, `group=[x,y]`, which Hydra would compose into one arm, or with
    a path that leads out of conf/, `group=../x`: such a file could name code that Hydra would call."""
    lists = [match for word in overrides if (match := re.fullmatch(r"\+*(\w+)=\[(.*)\]", word))]
    problems = [
        f"{match[0]} is a list, and {match[1]} takes one choice; to run each of several add -m and write {match[1]}={match[2]}"
        for match in lists
        if (CONF / match[1]).is_dir()
    ]
    outside = r"[+~]*([\w/]+)(@[^=]*)?=.*\.\."
    problems += [
        f"{word} leads out of conf/{match[1]}, to files that nobody has checked; name a file of that folder, or one of a folder given by --config-dir"
        for word in overrides
        if (match := re.match(outside, word)) and (CONF / match[1]).is_dir()
    ]
    if problems:
        raise InputError(problems)


def _points(cfg: DictConfig, values: Mapping[str, Sequence[Override]]) -> Iterator[tuple[Override, ...]]:
    """Yields all combinations of one override for each key of `values`, without keys that no stage of `cfg` reads."""
    reads_all = cfg.method.selection.kind == "all" and "method.selection.kind" not in values
    unread = {"method.selection.value"} if reads_all else set()
    return itertools.product(*(options for key, options in values.items() if key not in unread))


@contextmanager
def composing(folder: Path = CONF) -> Iterator[None]:
    """Lets Hydra's `compose` read `folder`, also inside a command that Hydra itself runs."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def _compositions(
    base: DictConfig, usual: Mapping[str, str], fixed: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Iterator[DictConfig]:
    """Yields a configuration for each combination of choices in `groups`; `base` is composed from `fixed` alone.

    Composing is slow, so only the combinations of groups outside _apart are composed. Each choice of a group in _apart
    is composed once, without the experiment, and its sections are copied into those combinations. `usual`: {group:
    choice in `base`}. The sections that this choice's file writes are copied too; other choices may not write them.
    """
    written = {
        key: frozenset().union(*(_written(key, value) for value in (*values, usual.get(key, values[0]))))
        for key, values in groups.items()
    }
    apart = _apart(fixed, written)
    together = {key: values for key, values in groups.items() if key not in apart}
    bases = {
        choice: compose("config", overrides=[*fixed, *map("=".join, zip(together, choice, strict=True))])
        if together
        else base
        for choice in itertools.product(*together.values())
    }
    common = tuple(word for word in fixed if not word.startswith("experiment="))
    for choice in itertools.product(*groups.values()):
        by_key = dict(zip(groups, choice, strict=True))
        cfg = _copied(bases[tuple(by_key[key] for key in together)])
        for key in apart:
            composed = _composed(common, key, by_key[key])
            for name in written[key]:
                cfg[name] = _copied(composed[name])
        yield cfg


@functools.cache
def _composed(common: tuple[str, ...], group: str, choice: str) -> DictConfig:
    """Returns the composition of a choice of `group` with the overrides `common`. It is cached: copy what you take."""
    return compose("config", overrides=[*common, f"{group}={choice}"])


def _apart(fixed: Sequence[str], written: Mapping[str, frozenset[str]]) -> list[str]:
    """Returns the config groups none of whose sections is written by another group or by an experiment.

    `written`: {group: the sections that it writes}; `fixed`: the sections that experiments write.
    """
    experiments = [word.split("=", 1)[1] for word in fixed if word.startswith("experiment=")]
    others = set().union(*(_written("experiment", name) for name in experiments))
    return [
        key
        for key, sections in written.items()
        if UNKNOWN not in sections
        and not sections & others.union(*(written[other] for other in written if other != key))
    ]


@functools.cache
def _written(group: str, choice: str) -> frozenset[str]:
    """Returns the top-level keys that conf/<group>/<choice>.yaml and its defaults list set.

    UNKNOWN is among them if some of them cannot be told.
    """
    file = CONF / group / f"{choice}.yaml"
    if not file.is_file():
        return frozenset({UNKNOWN})
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}  # a file of comments alone chooses the defaults
    keys = {group}
    if "@package" in text:
        keys = {*content} if re.match(r"# @package _global_\n", text) else {UNKNOWN}
    for entry in content.get("defaults", []):
        override = re.fullmatch(r"override /(\w+)", next(iter(entry))) if isinstance(entry, dict) else None
        keys |= _written(override[1], *entry.values()) if override else {UNKNOWN}
    return frozenset(keys - {"defaults", "hydra"})


def _copied(cfg: DictConfig) -> DictConfig:
    """Returns a deep copy, six times as fast as copy.deepcopy. Unpickling is safe here: the bytes were just made."""
    copied: DictConfig = pickle.loads(pickle.dumps(cfg, pickle.HIGHEST_PROTOCOL))
    return copied


def set_values(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Sets the values of overrides in `cfg`, in place. Raises InputError for a value of the wrong type."""
    for override in overrides:
        key = override.key_or_group
        try:
            section = OmegaConf.select(cfg, key.rpartition(".")[0] or key)
            new_entry = isinstance(section, DictConfig) and OmegaConf.get_type(section) is dict  # mappings take any key
            OmegaConf.update(cfg, key, override.value(), force_add=new_entry)
        except OmegaConfBaseException as error:
            raise InputError(wrong_type(str(override.input_line), str(error).splitlines()[0])) from error


def distinct(arms: Sequence[Arm]) -> list[Node]:
    """Returns every stage that the arms need, once, parents before children."""
    return list({node.key: node for arm in arms for node in arm.run}.values())
