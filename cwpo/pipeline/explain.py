"""Explains why a stage would run: where it or its ancestors differ from the most similar finished stage."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cwpo.pipeline.arms import Arm, distinct
from cwpo.pipeline.graph import Node
from cwpo.store.manifest import StoreError
from cwpo.store.store import Store

VERSION = "version of the stage"
# Settings of a stage and all its ancestors: (kind, dotted key) -> values as JSON; several if the kind occurs twice.
Lineage = dict[tuple[str, str], set[str]]


def explain(store: Store, arms: Sequence[Arm]) -> Iterator[str]:
    """Yields lines: how many of the arms' stages the store has, and why each of their other stages would run."""
    nodes = distinct(arms)
    past = Past(store)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in nodes:
        try:
            reason = None if node.done(store) else past.why(node)
        except StoreError as error:
            reason = str(error)
        if reason is not None:
            reasons[node.name, reason].append(node.key)
    open_stages = sum(map(len, reasons.values()))
    yield f"{len(nodes)} stages: {len(nodes) - open_stages} in the store, {open_stages} to run"
    for (name, reason), keys in reasons.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"{name} ({keys[0]}{more}): {reason}"


class Past:
    """The finished stages of a store, and the settings of each with its ancestors."""

    def __init__(self, store: Store) -> None:
        self.manifests: dict[str, dict[str, Any]] = {}
        self.lineages: dict[str, Lineage] = {}
        for stage, key in store.finished():
            with suppress(StoreError):  # a damaged stage explains nothing
                self.manifests[key] = store.recorded(stage, key)

    def why(self, node: Node) -> str:
        """Returns a line: how `node` differs from the most similar finished stage of its kind, or that none exists."""
        ours: Lineage = {}
        for each in node.ancestors():
            _add(ours, _own(each.stage.name, each.stage.version, each.hashed))
        name = node.stage.name
        same = [key for key, manifest in self.manifests.items() if manifest["stage"] == name]
        if not same:
            return f"no stage {name} is in the store"
        changed, key = min(
            ((differences(self.lineage(key), ours), key) for key in same), key=lambda pair: (len(pair[0]), pair[1])
        )
        return f"{_shown(changed, name)} (nearest: {name}/{key})"

    def lineage(self, key: str) -> Lineage:
        if key not in self.lineages:
            manifest = self.manifests[key]
            lineage = _own(manifest["stage"], manifest["version"], manifest["config"])
            for role, parent in manifest["parents"].items():
                if parent in self.manifests:
                    _add(lineage, self.lineage(parent))
                else:
                    lineage[role, "its finished stage"] = {f"{parent}, which is gone"}
            self.lineages[key] = lineage
        return self.lineages[key]


def differences(before: Lineage, after: Lineage) -> list[tuple[str, str, str, str]]:
    """Returns (stage, key, old, new) of every setting that differs; "not there" stands for a missing value."""
    changed = []
    for stage, key in sorted(before.keys() | after.keys()):
        old, new = before.get((stage, key), set()), after.get((stage, key), set())
        if old != new:
            was, now = (" and ".join(sorted(side)) or "not there" for side in (old, new))
            changed.append((stage, key, was, now))
    return changed


def _own(stage: str, version: int, config: Mapping[str, Any]) -> Lineage:
    flat = {(stage, key): {json.dumps(value, ensure_ascii=False)} for key, value in _flat(config)}
    return {(stage, VERSION): {str(version)}} | flat


def _add(lineage: Lineage, other: Lineage) -> None:
    for key, values in other.items():
        lineage[key] = lineage.get(key, set()) | values


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) for every value in nested dictionaries; an empty one counts as a value."""
    if not isinstance(config, dict) or not config:
        yield prefix, config
        return
    for name, value in config.items():
        yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))


def _shown(changed: Sequence[tuple[str, str, str, str]], own: str) -> str:
    """Returns a text: `key old -> new` for each changed key, and which stages read it if the stage `own` does not."""
    stages = defaultdict(list)
    for stage, key, old, new in changed:
        stages[key, old, new].append(stage)
    parts = []
    for (key, old, new), where in sorted(stages.items(), key=lambda item: own not in item[1]):
        through = "" if own in where else f" (through {', '.join(where)})"
        parts.append(f"{key} {old} -> {new}{through}")
    return ", ".join(parts) or "its ancestors"
