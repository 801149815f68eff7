"""Every file of a store, damaged in every way: seen when it is used or by verify, named, computed again on request only."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.commands import run
from harness.fixtures import FULL
from harness.state import COUNTS, identities, left_over, outputs, rows, store_of

from cwpo.execution.node import Settings, run_node
from cwpo.pipeline.arms import distinct, expand
from cwpo.pipeline.graph import Node
from cwpo.pipeline.record import metrics
from cwpo.store import manifest
from cwpo.store.manifest import MANIFEST, StoreError

pytestmark = pytest.mark.faults


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def flip_first(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[0] ^= 0x20
    file.write_bytes(data)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def grow(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\n")


def delete(file: Path) -> None:
    file.unlink()


def become_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def gain_neighbour(file: Path) -> None:
    file.with_name("stranger.json").write_text("{}")


DAMAGES: list[Callable[[Path], None]] = [flip, flip_first, truncate, empty, grow, delete, become_folder, gain_neighbour]
NEED_BYTES = (flip, flip_first, truncate, empty)


@pytest.fixture(scope="module")
def folder(undisturbed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "store"
    shutil.copytree(undisturbed, folder)
    return folder


@pytest.fixture(scope="module")
def nodes() -> list[Node]:
    from harness.commands import SWEEP

    return distinct(expand(SWEEP[1:]))


def uses(node: Node, nodes: list[Node], folder: Path) -> Callable[[], object]:
    """What a run does that reads the stage: its first child computed anew, or for a last stage its rows written."""
    for child in nodes:
        if any(parent.key == node.key for parent in child.parents.values()):
            fresh = dataclasses.replace(child, hashed={**child.hashed, "another": True})
            return lambda: run_node(fresh, Settings(str(store_of(folder).root)))
    return lambda: metrics(node, store_of(folder))


def test_every_file_damaged_in_every_way_is_named_on_use_and_by_verify(folder, nodes):
    """In full the 44 stages, else the first of each kind."""
    store = store_of(folder)
    firsts = {node.stage.name: node for node in reversed(nodes)}
    cases: Counter[str] = Counter()
    kinds = set()
    for node in nodes if FULL else firsts.values():
        place = node.folder(store)
        use = uses(node, nodes, folder)
        backup = folder.parent / "backup"
        for name in [MANIFEST, *store.recorded(node.stage.name, node.key)["files"]]:
            kinds.add(f"{node.stage.name}/{name}")
            for damage in DAMAGES:
                if damage in NEED_BYTES and not (place / name).stat().st_size:
                    continue  # nothing to flip or cut
                shutil.copytree(place, backup)
                damage(place / name)
                named = "stranger.json" if damage is gain_neighbour else name
                with pytest.raises(StoreError) as refused:
                    use()
                assert str(place / Path(name).with_name(Path(named).name)) in str(refused.value)
                assert f"delete {place}" in str(refused.value)
                (line,) = store.damage(node.stage.name, node.key)
                assert str(place / Path(name).with_name(Path(named).name)) in line
                assert place.exists(), "a damaged stage was deleted unasked"
                shutil.rmtree(place)
                backup.rename(place)
                cases[damage.__name__] += 1
    assert store.damaged() == {}
    assert len(kinds) > 50 and len(cases) == len(DAMAGES)
    shown = ", ".join(f"{count} {name}" for name, count in cases.items())
    COUNTS.append(
        f"damage: {cases.total()} cases, {len(kinds)} kinds of files x {len(DAMAGES)} kinds of damage ({shown}): each "
        "refused on use and named by verify"
    )


def test_of_large_files_only_verify_reads_every_byte(folder, nodes, monkeypatch):
    monkeypatch.setattr(manifest, "HASHED_ON_USE", 100)
    store = store_of(folder)
    node = next(node for node in nodes if node.stage.name == "pretrain")
    file = node.folder(store) / "model" / "model.safetensors"
    kept = file.read_bytes()
    flip(file)
    assert store.manifest("pretrain", node.key)["files"]
    assert store.damage("pretrain", node.key) == [f"{file} is damaged: it differs from what was written"]
    truncate(file)
    with pytest.raises(StoreError, match=r"model\.safetensors is damaged: \d+ bytes were written, \d+ are there"):
        store.manifest("pretrain", node.key)
    file.write_bytes(kept)


def test_a_sweep_that_meets_damage_names_it_and_goes_on_once_told_to_repair(folder, undisturbed, nodes):
    store = store_of(folder)
    firsts = list({node.stage.name: node for node in reversed(nodes)}.values())
    cases = firsts if FULL else firsts[::4]
    for number, node in enumerate(cases):  # a stage of each kind; its files and the kinds of damage by turns
        damage = DAMAGES[number % len(DAMAGES)]
        names = [MANIFEST, *(n for n, e in store.recorded(node.stage.name, node.key)["files"].items() if e["bytes"])]
        file = node.folder(store) / names[number % len(names)]
        child = next((c for c in nodes if node.key in {p.key for p in c.parents.values()}), None)
        if child is not None:
            store.drop(child.stage.name, child.key)
        before = {k: v for k, v in identities(store).items() if k != f"{node.stage.name}/{node.key}"}
        damage(file)
        code, said = run("sweep", ["1"], folder)
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert code == 1 and str(file.parent) in line and "to compute it again" in line
        code, said = run("store", ["action=verify"], folder)
        assert code == 1 and str(file.parent) in said and "1 files are damaged" in said, said
        now = identities(store)
        assert {name: now.get(name) for name in before} == before, "something was computed or deleted unasked"
        code, said = run("store", ["action=repair"], folder)
        assert code == 0 and f"deleted {node.folder(store)}" in said and "1 stages deleted" in said, said
        code, said = run("sweep", ["1"], folder)
        assert code == 0, said
    assert outputs(store) == outputs(store_of(undisturbed))
    assert rows(folder) == rows(undisturbed)
    assert store.damaged() == {} and left_over(folder) == []
    COUNTS.append(
        f"damage, whole commands: {len(cases)} sweeps refused, verified, repaired and resumed; all bytes equal"
    )
