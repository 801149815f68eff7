"""The arms of a command, kept beside the store once all their stages are finished.

Composing and checking hundreds of arms takes Hydra a quarter of a minute. Where nothing that they come from has changed and
every stage is there, nothing would be computed, and what is left to do is to read results.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.pipeline.arms import Arm
from cwpo.pipeline.graph import LOCAL, Node, hashed_config
from cwpo.stages.base import Stage
from cwpo.store.digests import code, digest
from cwpo.store.manifest import StoreError
from cwpo.store.store import Store, fingerprint

FOLDER = ".arms"
READERS = ("hydra-core", "omegaconf")


def kept_arms(store: Store, command: Any) -> dict[str, list[Arm]] | None:
    """The arms of each experiment of `command`, which is JSON values; None where they must be expanded.

    They are good as long as conf/, our code and the packages that read conf/ stay as they are and every stage is there. Such
    arms can be read, not run: their `cfg` has the configuration's values as plain attributes. Keys are made anew from what
    made them, so nothing that was damaged or put there names another stage.
    """
    try:
        told = json.loads(_file(store, command).read_text(encoding="utf-8"))
        if told["source"] != _source():
            return None
        nodes: list[Node] = []
        for name, version, hashed, parents in told["nodes"]:
            if hashed != hashed_config(hashed):  # what was the name of a model is now a local folder's
                return None
            nodes.append(_node(name, version, hashed, {role: nodes[i] for role, i in parents.items()}))
        if not all(node.done(store) for node in nodes):
            return None
        return {name: [_arm(nodes, *made) for made in group] for name, group in told["arms"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, StoreError):
        return None


def keep_arms(store: Store, command: Any, arms: Mapping[str, Sequence[Arm]]) -> None:
    """Keep the finished arms of `command` for kept_arms, unless local files are part of them: these may change."""
    at: dict[str, int] = {}
    nodes: list[list[Any]] = []
    for made in (made for group in arms.values() for made in group):
        for node in made.run:
            if node.key not in at:
                at[node.key] = len(nodes)
                parents = {role: at[parent.key] for role, parent in node.parents.items()}
                nodes.append([node.stage.name, node.stage.version, node.hashed, parents])
    groups = {name: [_told(made, at) for made in group] for name, group in arms.items()}
    text = json.dumps({"source": _source(), "arms": groups, "nodes": nodes})
    if f'"{LOCAL}' in text:
        return
    file = _file(store, command)
    partial = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # of a disk that is full or read-only: what is finished can be read all the same
        try:
            file.parent.mkdir(exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def _file(store: Store, command: Any) -> Path:
    """Where the arms of a command, given in this folder, are kept."""
    return store.root / FOLDER / f"{_digest([command, os.getcwd()])}.json"


def _source() -> str:
    """A digest of all that a command's arms come from."""
    versions = [sys.version, *map(metadata.version, READERS)]
    return _digest([fingerprint(CONF), digest(code()), versions])


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _told(made: Arm, at: Mapping[str, int]) -> tuple[Any, dict[str, int], list[str]]:
    """The configuration of an arm, the number of each stage it needs by the stage's name, and the order of these."""
    needed = {node.key for node in made.run}
    numbers = {name: at[node.key] for name, node in made.nodes.items() if node.key in needed}
    return OmegaConf.to_container(made.cfg, resolve=True), numbers, [node.name for node in made.run]


def _arm(nodes: Sequence[Node], cfg: Any, numbers: Mapping[str, int], run: Sequence[str]) -> Arm:
    named = {name: replace(nodes[i], name=name) for name, i in numbers.items()}
    return Arm(_attributes(cfg), named, [named[name] for name in run])


def _node(name: str, version: int, hashed: dict[str, Any], parents: dict[str, Node]) -> Node:
    return Node(name, Stage(name, version, (), _finished), {}, hashed, parents)


def _finished(_: Any) -> NoReturn:
    raise RuntimeError("a kept stage is finished and cannot be run")


def _attributes(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _attributes(part) for name, part in value.items()})
    return value
