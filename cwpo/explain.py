"""Why a stage would run: what of its config and its parents differs from the nearest finished stage of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cwpo.manifest import StoreError
from cwpo.pipeline import Node
from cwpo.plan import distinct, expand
from cwpo.store import Store

UNSET = "not set"


def explain(store: Store, overrides: Sequence[str]) -> Iterator[str]:
    """Lines for the run or sweep that `overrides` mean: what is in the store, and for every other stage why it is not."""
    nodes = distinct(expand(overrides))
    known: dict[str, list[dict[str, Any]]] = {}
    said: dict[tuple[str, str], list[str]] = {}
    there = 0
    for node in nodes:
        try:
            if node.done(store):
                there += 1
                continue
            if node.stage.name not in known:
                known[node.stage.name] = _manifests(store, node.stage.name)
            reason = why(node, known[node.stage.name])
        except StoreError as error:
            reason = str(error)
        said.setdefault((node.name, reason), []).append(node.key)
    yield f"{len(nodes)} stages: {there} in the store, {len(nodes) - there} to run"
    for (name, reason), keys in said.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"{name} ({keys[0]}{more}): {reason}"


def why(node: Node, manifests: Sequence[Mapping[str, Any]]) -> str:
    """What distinguishes the node from the one of `manifests`, all of its kind, that differs least."""
    if not manifests:
        return f"no stage {node.stage.name} is in the store"
    nearest, changed = min(
        ((manifest, list(differences(node, manifest))) for manifest in manifests),
        key=lambda pair: (len(pair[1]), pair[0]["key"]),
    )
    return f"{', '.join(changed)} (nearest: {nearest['stage']}/{nearest['key']})"


def differences(node: Node, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What differs between a finished stage and the node: the stage's version, config keys, parents."""
    if manifest["version"] != node.stage.version:
        yield f"version of the stage {manifest['version']} -> {node.stage.version}"
    before, after = _flat(manifest["config"]), _flat(json.loads(json.dumps(node.hashed)))
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, UNSET), after.get(name, UNSET)
        if old != new:
            yield f"{name} {_shown(old)} -> {_shown(new)}"
    parents = {role: parent.key for role, parent in node.parents.items()}
    for role in sorted(parents.keys() | manifest["parents"].keys()):
        old, new = manifest["parents"].get(role, UNSET), parents.get(role, UNSET)
        if old != new:
            yield f"parent {role} {old} -> {new}"


def _manifests(store: Store, stage: str) -> list[dict[str, Any]]:
    found = []
    for kind, key in store.finished(stage):
        try:
            found.append(store.recorded(kind, key))
        except StoreError:
            continue  # a damaged one explains nothing
    return found


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as dotted names -> values."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _shown(value: Any) -> str:
    return value if value == UNSET else json.dumps(value, ensure_ascii=False)
