"""The store: content-addressed, atomic, one computation per key, damage seen."""

import errno
import json
import multiprocessing
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cwpo.errors import disk_place, disk_problem
from cwpo.store.store import Store, StoreError, commit_of, fingerprint, stage_key


def compute(store: Store, key: str = "k", text: str = "hello", work=None) -> bool:
    def write(folder: Path) -> dict:
        (folder / "out.txt").write_text(text)
        return {"length": len(text)}

    return store.compute("stage", key, work or write, config={"a": 1}, parents={}, seed=0, version=1)


def test_other_users_of_a_shared_store_can_read_every_file(tmp_path):
    def work(folder: Path) -> dict:
        (folder / "model").mkdir()
        (folder / "model" / "weights").touch(mode=0o600)
        return {}

    store = Store(tmp_path)
    compute(store, work=work)
    folder = store.folder("stage", "k")
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {folder.stat().st_mode & 0o666}


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
    assert {*"seconds peak_memory_mb host git_commit packages seed parents".split()} <= manifest.keys()


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


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_damage_is_named_on_reading(tmp_path, damage):
    store = Store(tmp_path)
    compute(store)
    file = store.folder("stage", "k") / "out.txt"
    file.write_text("h") if damage == "truncate" else file.unlink()
    advice = r"delete .* action=drop store=\S+ 'stages=\[stage/k\]', to compute it again"
    with pytest.raises(StoreError, match=rf"out\.txt is damaged.*{advice}"):
        store.manifest("stage", "k")


def test_verify_finds_a_flipped_byte(tmp_path):
    store = Store(tmp_path)
    compute(store)
    assert store.damaged() == {}
    (store.folder("stage", "k") / "out.txt").write_text("hellO")
    assert [line for lines in store.damaged().values() for line in lines if "out.txt is damaged: it differs" in line]


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
    for hidden in (".git/index", ".cache/huggingface/download/weights.metadata", "part/.DS_Store"):
        file = tmp_path / "one" / hidden
        file.parent.mkdir(parents=True)
        file.write_text("changes with every use")
    assert fingerprint(tmp_path / "one") == before
    (tmp_path / "one" / "weights").write_text("other")
    assert fingerprint(tmp_path / "one") != before


def test_fingerprint_follows_links_to_folders(tmp_path):
    """Published data sets have a folder for each part, and a user may link one from another disk."""
    for folder in ("data/own", "disk/part"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/own/train.jsonl").write_text("own")
    (tmp_path / "disk/part/train.jsonl").write_text("before")
    (tmp_path / "data/linked").symlink_to(tmp_path / "disk/part")
    (tmp_path / "disk/part/round").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/other").mkdir()
    (tmp_path / "disk/part/there").symlink_to(tmp_path / "disk/other")
    (tmp_path / "disk/other/back").symlink_to(tmp_path / "disk/part")
    (tmp_path / "data/gone").symlink_to(tmp_path / "nowhere")
    before = fingerprint(tmp_path / "data")
    (tmp_path / "disk/part/train.jsonl").write_text("after!")
    assert fingerprint(tmp_path / "data") != before


# --- damage --------------------------------------------------------------------------------------------------------


def test_a_changed_manifest_is_damage(tmp_path):
    store = Store(tmp_path)
    compute(store)
    file = store.folder("stage", "k") / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged: it differs from what was written; delete"):
        store.manifest("stage", "k")


@pytest.mark.parametrize(
    ("text", "what"), [("{", "it is not JSON"), ("[1]", "it lacks entries"), ('{"a": 1}', "it lacks entries")]
)
def test_a_manifest_that_is_none_is_damage(tmp_path, text, what):
    store = Store(tmp_path)
    compute(store)
    (store.folder("stage", "k") / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=rf"manifest\.json is damaged: {what}"):
        store.manifest("stage", "k")


def test_a_manifest_from_before_there_were_seals_is_read(tmp_path):
    store = Store(tmp_path)
    compute(store)
    file = store.folder("stage", "k") / "manifest.json"
    old = json.loads(file.read_text())
    assert len(old.pop("sha256")) == 64
    file.write_text(json.dumps(old, indent=1) + "\n")
    assert store.manifest("stage", "k") == old
    (store.folder("stage", "k") / "out.txt").write_text("hellO")
    with pytest.raises(StoreError, match=r"out\.txt is damaged"):
        store.manifest("stage", "k")


def test_the_manifest_of_another_stage_is_damage(tmp_path):
    store = Store(tmp_path)
    compute(store, "k")
    compute(store, "l")
    shutil.copy(store.folder("stage", "l") / "manifest.json", store.folder("stage", "k") / "manifest.json")
    with pytest.raises(StoreError, match="is damaged: it is the manifest of another stage, stage/l"):
        store.manifest("stage", "k")


def test_a_folder_without_its_manifest_is_not_overwritten(tmp_path):
    store = Store(tmp_path)
    compute(store, text="precious")
    (store.folder("stage", "k") / "manifest.json").unlink()
    for look in (lambda: store.has("stage", "k"), lambda: compute(store), lambda: store.manifest("stage", "k")):
        with pytest.raises(StoreError, match=r"manifest\.json is missing.*delete .* to compute it again"):
            look()
    assert (store.folder("stage", "k") / "out.txt").read_text() == "precious"


def test_a_stranger_is_damage_but_not_what_desktops_leave(tmp_path):
    store = Store(tmp_path)
    compute(store)
    (store.folder("stage", "k") / ".DS_Store").write_text("x")
    assert store.manifest("stage", "k") and store.damaged() == {}
    (store.folder("stage", "k") / "config.json").write_text("{}")
    with pytest.raises(StoreError, match=r"config\.json is damaged: the stage did not write it"):
        store.manifest("stage", "k")


def test_a_dropped_stage_is_computed_again(tmp_path):
    store = Store(tmp_path)
    compute(store, text="first")
    store.drop("stage", "k")
    assert not store.has("stage", "k") and not any((tmp_path / ".partial").iterdir())
    assert compute(store, text="second")


# --- what killed processes leave ------------------------------------------------------------------------------------


def _hold(root: str, ready, finish) -> None:
    def work(folder: Path) -> dict:
        (folder / "half").write_text("half")
        ready.set()
        finish.wait(30)
        return {}

    compute(Store(root), "busy", work=work)


def test_cleaning_takes_what_the_dead_left_and_nothing_of_the_living(tmp_path):
    store = Store(tmp_path)
    context = multiprocessing.get_context("fork")
    ready, finish = context.Event(), context.Event()
    living = context.Process(target=_hold, args=(str(tmp_path), ready, finish))
    living.start()
    assert ready.wait(30)
    compute(store, "done")
    for name in (".partial/stage-dead", ".scratch/stage-done", ".scratch/stage-unfinished"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "part").write_text("x")
    assert store.held() == ["stage-busy"]
    store.clean()
    assert [p.name for p in (tmp_path / ".partial").iterdir()] == ["stage-busy"]
    assert [p.name for p in (tmp_path / ".scratch").iterdir()] == ["stage-unfinished"]
    store.forget_locks()
    assert [p.name for p in (tmp_path / ".locks").iterdir()] == ["stage-busy.lock"]
    finish.set()
    living.join()
    assert store.has("stage", "busy") and store.held() == []


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    store = Store(tmp_path)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    doomed = context.Process(target=_hold, args=(str(tmp_path), ready, context.Event()))
    doomed.start()
    assert ready.wait(30)
    doomed.kill()
    doomed.join()
    assert (tmp_path / ".partial" / "stage-busy" / "half").is_file()
    begun = time.monotonic()
    assert compute(store, "busy")
    assert time.monotonic() - begun < 5
    assert sorted(p.name for p in store.folder("stage", "busy").iterdir()) == ["manifest.json", "out.txt"]


# --- what a disk refuses -------------------------------------------------------------------------------------------


def test_a_refusal_is_recognised_however_it_is_wrapped():
    class LibraryError(Exception):
        pass

    assert disk_problem(OSError(errno.ENOSPC, "x")).startswith("no space is left")
    assert disk_problem(LibraryError("I/O error: No space left on device (os error 28)")).startswith("no space")
    assert disk_problem(PermissionError(errno.EACCES, "x", "file")).startswith("permission is denied")
    wrapped = LibraryError("could not save")
    wrapped.__cause__ = OSError(errno.EROFS, "x", "/some/file")
    assert disk_problem(wrapped).startswith("it is read-only")
    assert disk_place(wrapped) == "/some/file"
    assert disk_problem(OSError(errno.EFBIG, "x")).startswith("files may not be that large there")
    assert disk_problem(ValueError("28")) is None
    assert disk_problem(FileNotFoundError(errno.ENOENT, "x", "file")) is None


def test_the_commit_says_whether_the_code_was_changed(tmp_path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    package = tmp_path / "cwpo" / "store"
    package.mkdir(parents=True)
    for name in ("cwpo/store/store.py", "notes.txt"):
        (tmp_path / name).write_text("first\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = commit_of(package)
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (tmp_path / "notes.txt").write_text("changed\n")
    assert commit_of(package) == clean
    (package / "store.py").write_text("changed\n")
    assert commit_of(package) == f"{clean}+"
    assert commit_of(tmp_path.parent) == ""
    unpacked = tmp_path / "downloads" / "cwpo"  # in a repository that does not have it
    unpacked.mkdir(parents=True)
    (unpacked / "store.py").write_text("first\n")
    assert commit_of(unpacked) == ""
