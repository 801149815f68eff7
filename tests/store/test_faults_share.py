"""Eight processes, one store: each stage computed once, also when one of them dies holding a lock."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from harness.commands import Command, run
from harness.state import COUNTS, identities, left_over, outputs, rows, store_of
from harness.watch import Watch

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="who computes what is seen with inotify, which Linux has"),
]
PROCESSES = 8
KILLED_AT = 9  # the stage during which the process that computes it is killed


def holder(lock: Path) -> int | None:
    """The process that holds a lock file, as the kernel lists it."""
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if "FLOCK" in words and "->" not in words and words[5].endswith(f":{inode}"):
            return int(words[4])
    return None


def test_eight_processes_compute_each_stage_once_though_one_is_killed_holding_a_lock(undisturbed, tmp_path):
    if not Path("/proc/locks").is_file():
        pytest.skip("/proc/locks, which names the holder of a lock, is not there")
    store = store_of(tmp_path)
    watch = Watch(store.root / ".partial")
    begun: Counter[str] = Counter()  # a folder of this name appears whenever a process starts to compute the stage
    commands = [Command("sweep", ["1"], tmp_path) for _ in range(PROCESSES)]
    killed = freed_after = None
    deadline = time.monotonic() + 900
    while any(command.running() for command in commands) and time.monotonic() < deadline:
        path = watch.wait(lambda p: p.parent.name == ".partial", lambda: False, timeout=0.2)
        if path is None:
            continue
        begun[path.name] += 1
        if killed is None and len(begun) >= KILLED_AT:
            lock = store.root / ".locks" / f"{path.name}.lock"
            owner = holder(lock)
            if owner in [command.pid for command in commands]:
                os.kill(owner, signal.SIGKILL)
                at = time.monotonic()
                killed = path.name
                while holder(lock) == owner:
                    time.sleep(0.001)
                freed_after = time.monotonic() - at
    for path in watch.pending():
        begun[path.name] += path.parent.name == ".partial"
    watch.close()
    codes = Counter(command.wait(1) for command in commands)
    assert killed is not None, "no process was caught holding a lock"
    assert codes == {0: PROCESSES - 1, -signal.SIGKILL: 1}, [c.said() for c in commands]
    stages = {name.replace("/", "-") for name in identities(store_of(undisturbed))}
    assert begun == {name: 2 if name == killed else 1 for name in stages}
    assert run("sweep", ["2"], tmp_path)[0] == 0  # the killed one, started again
    assert outputs(store) == outputs(store_of(undisturbed))
    assert rows(tmp_path) == rows(undisturbed)
    assert left_over(tmp_path) == [] and store.damaged() == {}
    assert store.held() == []
    COUNTS.append(
        f"share: {PROCESSES} processes, {len(stages)} stages, {sum(begun.values())} computations: each stage once, {killed} "
        f"twice as its process was killed holding the lock (free again after {1000 * freed_after:.0f} ms); 7 ended with 0"
    )
