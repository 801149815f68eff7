"""Full, read-only and forbidden disks, and clocks that go backwards: a clear error, an intact store, and on it goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.commands import TINY, run
from harness.fixtures import FULL
from harness.state import COUNTS, identities, left_over, outputs, rows, store_of

pytestmark = pytest.mark.faults
SIZE_MB = 24
NOBODY = 65534
ONE_RUN = ["method=cw_po", "seed=0", "name=faults", *TINY]


def mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting needs root and the right to mount: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    if sys.platform != "linux":
        pytest.skip("tmpfs is Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Fill the disk up to `free` bytes."""
    filler = disk / "filler"
    with filler.open("wb") as stream:
        left = shutil.disk_usage(disk).free - free
        try:
            while left > 0:
                left -= stream.write(b"\0" * min(left, 1 << 16))
                stream.flush()
        except OSError:
            pass
    return filler


def only_line(said: str) -> str:
    """The one error line of a command's output."""
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


def test_a_full_disk_at_every_stage(undisturbed, disk):
    """Stage by stage: filled up so that the next one finds no room, part of the room, or almost all of it."""
    from harness.commands import SWEEP

    from cwpo.pipeline.arms import distinct, expand

    store = store_of(disk)
    nodes = distinct(expand(SWEEP[1:]))
    firsts = {node.name: i for i, node in reversed(list(enumerate(nodes)))}  # where each kind of stage comes first
    chosen = sorted(firsts.items(), key=lambda item: item[1])
    assert len(chosen) >= 15
    shares = (0.0, 0.4, 0.8) if FULL else (0.4,)
    refused = 0
    for name, i in chosen if FULL else chosen[::4]:
        assert run("sweep", ["1", str(i)], disk)[0] == 0 or i == 0
        node = nodes[i]
        sizes = [e["bytes"] for e in store_of(undisturbed).recorded(node.stage.name, node.key)["files"].values()]
        whole = sum(-(-size // 4096) * 4096 for size in sizes)
        before = identities(store)
        for share in shares:
            filler = fill(disk, int(share * whole))
            code, said = run("sweep", ["1"], disk)
            filler.unlink()
            line = only_line(said)
            assert code == 1
            assert line.startswith(f"error: stage {name} ({node.key}) could not use {store.root}"), line
            assert "no space is left there; free some. What is finished stays, and the same command goes on" in line
            assert identities(store) == before and store.damaged() == {}
            assert [path for path in left_over(disk) if ".scratch" not in path] == []
            refused += 1
    assert run("sweep", ["1", str(len(nodes))], disk)[0] == 0
    filler = fill(disk, 0)
    code, said = run("sweep", ["1"], disk)
    assert code == 1
    assert "results/toy" in only_line(said) and "no space is left" in only_line(said)
    filler.unlink()
    assert run("sweep", ["1"], disk)[0] == 0
    assert outputs(store) == outputs(store_of(undisturbed))
    assert rows(disk) == rows(undisturbed)
    assert left_over(disk) == []
    COUNTS.append(
        f"full disk: refused {refused} times at {len(chosen) if FULL else len(chosen[::4])} kinds of stages and once at the "
        "results, each with one line and an intact store; all bytes equal once there was room"
    )


def test_a_full_disk_stops_workers_too(disk):
    assert run("sweep", ["2", "4"], disk)[0] == 0
    before = identities(store_of(disk))
    fill(disk, 8192)
    code, said = run("sweep", ["2"], disk)
    assert code == 1 and "no space is left there" in only_line(said)
    assert identities(store_of(disk)) == before and left_over(disk) == []


def test_a_read_only_store_can_be_read_but_not_written(undisturbed, disk, tmp_path):
    shutil.copytree(undisturbed / "runs", disk / "runs")
    mount(disk, "-o", "remount,ro")
    places = [f"store={disk}/runs/store", f"results={tmp_path}/results"]
    code, said = run("run", [*ONE_RUN, *places], tmp_path)
    assert code == 0, said
    code, said = run("run", [*ONE_RUN, "objective.beta=0.2", *places], tmp_path)
    line = only_line(said)
    assert code == 1
    assert "stage align" in line and f"could not use {disk}/runs/store/" in line and "it is read-only" in line
    code, said = run("run", [*ONE_RUN, places[0], f"results={disk}/results"], tmp_path)
    assert code == 1 and f"{disk}/results" in only_line(said) and "it is read-only" in only_line(said)
    COUNTS.append("read-only: a finished store is read, a new stage or results there are refused in one line")


@pytest.fixture
def another_user(undisturbed, tmp_path) -> Iterator[int]:
    """A user who may read a finished store in tmp_path but not write there."""
    if os.geteuid():
        pytest.skip("only root can start a command as another user")
    opened = {}
    for folder in [*tmp_path.parents, *undisturbed.parents]:
        if folder.stat().st_mode & 0o005 != 0o005:
            opened[folder] = folder.stat().st_mode
            folder.chmod(opened[folder] | 0o005)
    tmp_path.chmod(0o755)
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    for path in [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield NOBODY
    for folder, mode in opened.items():
        folder.chmod(mode)


def test_missing_permissions_are_named(another_user, tmp_path):
    places = ["store=runs/store", "results=results"]
    code, said = run("run", [*ONE_RUN, "objective.beta=0.2", *places], tmp_path, user=another_user)
    line = only_line(said)
    assert code == 1
    assert "stage align" in line and f"could not use {tmp_path}/runs/store/" in line
    assert "permission is denied; make it writable" in line
    for file in (tmp_path / "runs/store").rglob("metrics.json"):
        file.chmod(0)
    code, said = run("run", [*ONE_RUN, *places], tmp_path, user=another_user)
    assert code == 1 and "metrics.json cannot be used: permission is denied" in only_line(said)


def test_a_clock_that_went_backwards_changes_nothing(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    future = 4e9  # the year 2096
    for path in [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]:
        os.utime(path, (future, future))
    before = identities(store_of(tmp_path))
    assert run("sweep", ["2"], tmp_path)[0] == 0
    assert identities(store_of(tmp_path)) == before
    assert rows(tmp_path) == rows(undisturbed)
