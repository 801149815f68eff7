"""The store: content-addressed, atomic, one computation per key, damage seen."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from cwpo.store import Store, StoreError, fingerprint, stage_key


def compute(store: Store, key: str = "k", text: str = "hello", work=None) -> bool:
    def write(folder: Path) -> dict:
        (folder / "out.txt").write_text(text)
        return {"length": len(text)}

    return store.compute("stage", key, work or write, config={"a": 1}, parents={}, seed=0, version=1)


def test_key_depends_on_each_part_and_not_on_order():
    base = stage_key("s", 1, {"a": 1, "b": 2}, {"p": "x"})
    assert base == stage_key("s", 1, {"b": 2, "a": 1}, {"p": "x"})
    others = [
        stage_key("t", 1, {"a": 1, "b": 2}, {"p": "x"}),
        stage_key("s", 2, {"a": 1, "b": 2}, {"p": "x"}),
        stage_key("s", 1, {"a": 1, "b": 3}, {"p": "x"}),
        stage_key("s", 1, {"a": 1, "b": 2}, {"p": "y"}),
        stage_key("s", 1, {"a": 1, "b": 2}, {"q": "x"}),
    ]
    assert len({base, *others}) == 6


def test_a_finished_stage_is_not_computed_again(tmp_path):
    store = Store(tmp_path)
    assert compute(store, text="first")
    assert not compute(store, text="second")
    assert (store.folder("stage", "k") / "out.txt").read_text() == "first"


def test_manifest_says_how_it_was_made(tmp_path):
    store = Store(tmp_path)
    compute(store)
    manifest = store.manifest("stage", "k")
    assert manifest["config"] == {"a": 1}
    assert manifest["summary"] == {"length": 5}
    assert manifest["files"]["out.txt"]["bytes"] == 5
    assert {
        "seconds",
        "peak_memory_mb",
        "host",
        "git_commit",
        "packages",
        "seed",
        "parents",
    } <= manifest.keys()


def test_a_failed_stage_leaves_nothing_and_can_be_repeated(tmp_path):
    store = Store(tmp_path)

    def fail(folder: Path) -> dict:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        compute(store, work=fail)
    assert not store.has("stage", "k")
    assert not list((tmp_path / ".partial").iterdir())
    assert compute(store)
    assert sorted(p.name for p in store.folder("stage", "k").iterdir()) == ["manifest.json", "out.txt"]


def test_a_stale_partial_folder_of_a_killed_run_is_discarded(tmp_path):
    store = Store(tmp_path)
    stale = tmp_path / ".partial" / "stage-k"
    stale.mkdir(parents=True)
    (stale / "junk").write_text("junk")
    compute(store)
    assert not (store.folder("stage", "k") / "junk").exists()


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_damage_is_named_on_reading(tmp_path, damage):
    store = Store(tmp_path)
    compute(store)
    file = store.folder("stage", "k") / "out.txt"
    file.write_text("h") if damage == "truncate" else file.unlink()
    with pytest.raises(StoreError, match=r"out\.txt is damaged.*delete .* to compute it again"):
        store.manifest("stage", "k")


def test_verify_finds_a_flipped_byte(tmp_path):
    store = Store(tmp_path)
    compute(store)
    assert store.verify() == []
    (store.folder("stage", "k") / "out.txt").write_text("hellO")
    assert [line for line in store.verify() if "out.txt is damaged: it differs" in line]


def _slow(folder: Path) -> dict:
    time.sleep(0.3)
    (folder / "out.txt").write_text("x")
    return {}


def _compute_slowly(root: str, queue) -> None:
    queue.put(compute(Store(root), work=_slow))


def test_processes_that_want_the_same_stage_compute_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_compute_slowly, args=(str(tmp_path), queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(queue.get() for _ in workers) == [False, False, False, True]


def test_fingerprint_follows_content_not_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("same")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
    before = fingerprint(tmp_path / "one")
    (tmp_path / "one" / "weights").write_text("other")
    assert fingerprint(tmp_path / "one") != before


def test_manifest_is_the_last_file_written(tmp_path):
    store = Store(tmp_path)
    compute(store)
    folder = store.folder("stage", "k")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "manifest.json" not in manifest["files"]
    assert (folder / "manifest.json").stat().st_mtime_ns >= (folder / "out.txt").stat().st_mtime_ns
