"""Which arms a command means, and which stages they need."""

from __future__ import annotations

import functools
import itertools
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.leaves import wrong_type
from cwpo.checks.settings import check_config
from cwpo.config.assets import settled
from cwpo.config.commands import register
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.pipeline.derived import derived_config
from cwpo.pipeline.graph import STAGES, Node, arm, wanted
from cwpo.runtime import rare_collections

NAMES_SEED = re.compile(r"\$\{[^}]*seed")  # an interpolation through which the seed reaches other keys


@dataclass(frozen=True)
class Arm:
    """One configuration and the stages it needs."""

    cfg: DictConfig
    nodes: dict[str, Node]
    run: list[Node]

    @staticmethod
    def of(cfg: DictConfig) -> Arm:
        check_config(cfg, STAGES)
        return Arm.of_checked(cfg)

    @staticmethod
    def of_checked(cfg: DictConfig, look: bool = True, plain: Mapping[str, Any] | None = None) -> Arm:
        """The arm of a configuration that is known to be valid; without a look at its checkpoints it can only be counted.

        `plain` is its derived_config, where that is known already and nothing had to be settled.
        """
        nodes = arm(cfg, look, plain)
        return Arm(cfg, nodes, wanted(nodes, cfg.until))

    @property
    def key(self) -> str:
        """What the arm ends in; two arms of equal key are the same experiment."""
        return self.run[-1].key


def expand(overrides: Sequence[str], seeds: Sequence[int] | None = None, look: bool = True) -> list[Arm]:
    """The distinct arms of a sweep, in order; see configurations. Raises InputError with every arm's problems.

    With look=False nothing is checked and no checkpoint looked at: such arms can be counted, not run.
    """
    arms: dict[str, Arm] = {}
    problems: dict[str, None] = {}
    with rare_collections():
        for cfg, over_seeds in configurations(overrides, seeds):
            try:
                for made in _over_seeds(cfg(), over_seeds, look):
                    arms.setdefault(made.key, made)
            except InputError as error:
                problems |= dict.fromkeys(error.problems)
    if problems:
        raise InputError(list(problems))
    return list(arms.values())


def configurations(
    overrides: Sequence[str], seeds: Sequence[int] | None = None
) -> Iterator[tuple[Callable[[], DictConfig], Sequence[Override]]]:
    """What makes each configuration of a sweep but for the seed, in order and unchecked, and the seeds' overrides.

    Overrides are as on the command line; `a=1,2` sweeps. An experiment file's own sweep counts unless the command line
    names the same key. `seeds` replaces the sweep over seeds. Making one raises InputError for a value of the wrong type.
    """
    one_choice(overrides)
    register()
    with composing():
        parser = OverridesParser.create()
        given = parser.parse_overrides(list(overrides))
        fixed = [str(o.input_line) for o in given if not o.is_sweep_override()]
        hydra = compose("config", overrides=fixed, return_hydra_config=True).hydra
        from_file = parser.parse_overrides([f"{k}={v}" for k, v in (hydra.sweeper.params or {}).items()])
        named = {o.get_key_element() for o in given}
        axes: dict[str, list[str]] = {}
        for o in [
            *(o for o in from_file if o.get_key_element() not in named),
            *(o for o in given if o.is_sweep_override()),
        ]:
            values = (
                list(o.sweep_string_iterator()) if o.is_sweep_override() else [o.get_value_element_as_str()]
            )
            axes[o.get_key_element()] = values
        if seeds is not None:
            fixed = [o for o in fixed if not o.startswith("seed=")]
            axes["seed"] = [str(seed) for seed in seeds]
        groups = {key: values for key, values in axes.items() if (CONF / key).is_dir()}
        plain = {key: values for key, values in axes.items() if key not in groups}
        points = {
            key: parser.parse_overrides([f"{key}={value}" for value in options])
            for key, options in plain.items()
        }
        composed = list(_compositions(fixed, groups))
    for cfg in composed:
        for point in _points(cfg, points):
            yield functools.partial(with_values, cfg, point), points.get("seed", [])


def one_choice(overrides: Sequence[str]) -> None:
    """InputError for a list where a group of conf/ takes one choice; Hydra would compose them all into one arm."""
    lists = [match for word in overrides if (match := re.fullmatch(r"\+*(\w+)=\[(.*)\]", word))]
    problems = [
        f"{match[0]} is a list, and {match[1]} takes one choice; to run each of several add -m and write {match[1]}={match[2]}"
        for match in lists
        if (CONF / match[1]).is_dir()
    ]
    if problems:
        raise InputError(problems)


def _points(cfg: DictConfig, values: Mapping[str, Sequence[Override]]) -> Iterator[tuple[Override, ...]]:
    """Every combination of plain values but the seed's, and but those of a key that nobody reads in this arm."""
    moot = {"seed"} | ({"method.selection.value"} if cfg.method.selection.kind == "all" else set())
    return itertools.product(*(options for key, options in values.items() if key not in moot))


def _over_seeds(cfg: DictConfig, seeds: Sequence[Override], look: bool) -> Iterator[Arm]:
    """The arm of every seed; but for the seed they are one configuration, checked and read once."""
    configs = [with_values(cfg, [seed]) for seed in seeds] or [cfg]
    if look:
        check_config(min(configs, key=lambda c: c.seed), STAGES)
    plain: dict[str, Any] | None = None
    if settled(cfg) is cfg and not NAMES_SEED.search(str(OmegaConf.to_container(cfg))):
        plain = derived_config(cfg, look)
    for made in configs:
        yield Arm.of_checked(made, look, plain and plain | {"seed": made.seed})


@contextmanager
def composing(folder: Path = CONF) -> Iterator[None]:
    """Hydra's compose over conf/, also inside a command that Hydra itself runs."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def _compositions(fixed: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Iterator[DictConfig]:
    """The configuration of every combination of choices.

    Composing is slow, so a group whose files write nothing outside their own node is composed once per choice, and its
    node put into the others.
    """
    alone = {key: values for key, values in groups.items() if _writes_only_its_node(key, values)}
    together = {key: values for key, values in groups.items() if key not in alone}
    first = [f"{key}={values[0]}" for key, values in alone.items()]
    bases = {
        choice: compose("config", overrides=[*fixed, *first, *_chosen(together, choice)])
        for choice in _product(together)
    }
    base = next(iter(bases.values()))
    chosen = _chosen(together, next(_product(together)))
    nodes = {(key, values[0]): base[key] for key, values in alone.items()} | {
        (key, value): compose("config", overrides=[*fixed, *first, *chosen, f"{key}={value}"])[key]
        for key, values in alone.items()
        for value in values[1:]
    }
    for choice in _product(groups):
        by_key = dict(zip(groups, choice, strict=True))
        cfg = _copied(bases[tuple(by_key[key] for key in together)])
        for key in alone:
            cfg[key] = _copied(nodes[key, by_key[key]])
        yield cfg


def _product(groups: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    return itertools.product(*groups.values())


def _chosen(groups: Mapping[str, Sequence[str]], choice: Sequence[str]) -> list[str]:
    return [f"{key}={value}" for key, value in zip(groups, choice, strict=True)]


def _writes_only_its_node(group: str, choices: Sequence[str]) -> bool:
    files = [CONF / group / f"{choice}.yaml" for choice in choices]
    return all(
        file.is_file()
        and not re.search(r"^# @package|^defaults:", file.read_text(encoding="utf-8"), re.MULTILINE)
        for file in files
    )


def _copied(cfg: DictConfig) -> DictConfig:
    """As copy.deepcopy, six times as fast; the bytes never leave this function."""
    copied: DictConfig = pickle.loads(pickle.dumps(cfg, pickle.HIGHEST_PROTOCOL))
    return copied


def with_values(cfg: DictConfig, overrides: Sequence[Override]) -> DictConfig:
    """A copy with plain values set, or the configuration itself without any. Only groups need composing, the slow part."""
    if not overrides:
        return cfg
    cfg = _copied(cfg)
    for override in overrides:
        try:
            OmegaConf.update(cfg, override.get_key_element(), override.value(), force_add=False)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise InputError(wrong_type(str(override.input_line), reason)) from error
    return cfg


def distinct(arms: Sequence[Arm]) -> list[Node]:
    """Every stage the arms need, once, parents before children."""
    return list({node.key: node for made in arms for node in made.run}.values())
