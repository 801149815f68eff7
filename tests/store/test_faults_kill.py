"""A sweep whose processes are killed at random moments, or asked to stop, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from harness.commands import SWEEP, Command, run
from harness.fixtures import FULL
from harness.state import COUNTS, identities, left_over, outputs, rows, store_of
from harness.watch import Watch

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="kills are aimed with inotify, which Linux has"),
]
KILLS = 64  # in full; the bounded form is one sweep
SIGNALS = 9 if FULL else 3
A_ROUND, AT_THE_END = (22, 4) if FULL else (10, 2)  # kills before a sweep may finish, and while it enters its rows
PATIENCE = 30.0  # seconds for what should take few

# What a kill waits for -> whether a path that has just appeared is it, up to how many of them are let pass, and the
# longest delay in seconds after it.
AIMS: dict[str, tuple[Callable[[Path], bool], int, float]] = {
    "stage": (lambda p: p.parent.name == ".partial", 4, 0.1),
    "weights": (lambda p: p.suffix == ".safetensors", 1, 0.003),
    "manifest": (lambda p: p.name == "manifest.json", 3, 0.001),
    "shard": (lambda p: ".scratch" in p.parts and p.suffix == ".partial", 3, 0.002),
    "results": (lambda p: p.name.startswith(".") and p.name.endswith(("csv.partial", "gz.partial")), 7, 0.0005),
}


class Round:
    """One sweep, from an empty store to its end through many deaths."""

    def __init__(self, folder: Path, chance: random.Random, stages: int, counts: Counter) -> None:
        self.folder, self.chance, self.stages, self.counts = folder, chance, stages, counts
        self.store = store_of(folder)
        self.done: dict[str, tuple[int, int, int]] = {}
        self.orphans: list[psutil.Process] = []

    def complete(self) -> bool:
        return len(self.done) == self.stages

    def start(self) -> Command:
        number = self.counts["starts"]
        self.counts["starts"] += 1
        if FULL and number % 24 == 5:
            self.counts["plain starts"] += 1
            return Command("run", [*SWEEP, "jobs=2"], self.folder, plain=True)
        if number % 12 == 3:
            self.counts["script starts"] += 1
            return Command("run", [*SWEEP, "jobs=2"], self.folder)
        return Command("sweep", ["2"], self.folder)

    def disturb(self, kind: str) -> bool:
        """Start the sweep and kill one of its processes; False if it ended before."""
        watch = Watch(self.store.root / ".partial", self.store.root / ".scratch", self.folder / "results")
        command = self.start()
        try:
            if kind == "moment":
                time.sleep(self.chance.uniform(0, 2.5))
            else:
                wanted, most, delay = AIMS[kind]
                for _ in range(self.chance.randint(1, most)):
                    watch.wait(wanted, command.running)
                time.sleep(self.chance.uniform(0, delay))
            killed = self.kill(command, kind)
            self.look(command)
        finally:
            watch.close()
        return killed

    def kill(self, command: Command, kind: str) -> bool:
        tree = command.tree()
        if not tree:
            return False
        parent, *workers = tree
        victim = self.chance.choice(workers) if workers and self.chance.random() < 0.6 else parent
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if victim is parent:
            if self.chance.random() < 0.5:
                psutil.wait_procs(tree, PATIENCE)
            else:
                self.counts["restarts beside dying workers"] += 1
            self.orphans += workers
            if command.wait(PATIENCE) != -signal.SIGKILL:
                return False
        else:
            code = command.wait(PATIENCE)
            said = command.said()
            assert code in (0, 1), said
            assert code == 0 or "a worker process was killed while these stages ran" in said, said
        self.counts["parent" if victim is parent else "worker"] += 1
        self.counts[kind] += 1
        self.counts["half-written left"] += bool(left_over(self.folder))
        return True

    def look(self, command: Command) -> None:
        """After every death: no finished stage was touched, no traceback was shown."""
        assert "Traceback" not in command.said(), command.said()
        now = identities(self.store)
        assert {name: now.get(name) for name in self.done} == self.done, "a finished stage was written again"
        self.done = now

    def finish(self) -> None:
        code, said = run("run", [*SWEEP, "jobs=2"], self.folder)
        assert code == 0, said
        _, alive = psutil.wait_procs(self.orphans, PATIENCE)
        assert not alive, "workers outlive their parent"
        now = identities(self.store)
        assert {name: now[name] for name in self.done} == self.done
        assert left_over(self.folder) == []
        assert self.store.damaged() == {}


def test_a_sweep_killed_again_and_again_ends_as_if_undisturbed(undisturbed, tmp_path):
    seed = int(os.environ.get("CWPO_FAULTS_SEED", time.time_ns() % 10**6))
    print(f"CWPO_FAULTS_SEED={seed}")  # shown where the test fails
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    expected = outputs(store_of(undisturbed))
    stages = len(identities(store_of(undisturbed)))
    kills = rounds = 0
    while kills < KILLS if FULL else not rounds:
        folder = tmp_path / f"round{rounds}"
        folder.mkdir()
        rounds += 1
        this = Round(folder, chance, stages, counts)
        for _ in range(A_ROUND - AT_THE_END):
            if not this.complete():
                kills += this.disturb(chance.choice(["moment", "stage", "stage", "weights", "manifest", "shard"]))
        for _ in range(AT_THE_END):
            kills += this.disturb("results")
        this.finish()
        assert outputs(this.store) == expected
        assert rows(folder) == rows(undisturbed)
    aims = ", ".join(f"{counts[kind]} {kind}" for kind in ("moment", *AIMS))
    COUNTS.append(
        f"kill: {kills} kills in {rounds} sweeps of {stages} stages ({counts['parent']} of the main process, "
        f"{counts['worker']} of workers; aimed at: {aims}), {counts['half-written left']} left something half-written; "
        f"{counts['starts']} starts, {counts['script starts']} of them scripts/run.py, {counts['plain starts']} with a new "
        f"interpreter; 0 stages computed twice, 0 left-overs, all bytes equal (seed {seed})"
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGTERM to all"])
def test_a_sweep_asked_to_stop_cleans_up_within_seconds_and_says_how_to_go_on(name, tmp_path):
    chance = random.Random(name)
    store = store_of(tmp_path)
    sent = signal.Signals[name.split()[0]]
    longest = 0.0
    for number in range(SIGNALS // 3):
        watch = Watch(store.root / ".partial")
        command = Command("sweep", [str(1 + number % 2)], tmp_path)
        for _ in range(chance.randint(1, 4)):
            watch.wait(lambda p: p.parent.name == ".partial", command.running)
        time.sleep(chance.uniform(0, 0.2))
        tree = command.tree() if name.endswith("all") else command.tree()[:1]
        begun = time.monotonic()
        for process in tree:
            with suppress(psutil.NoSuchProcess):  # a worker that ended with its parent, told first
                process.send_signal(sent)
        code = command.wait(PATIENCE)
        longest = max(longest, time.monotonic() - begun)
        watch.close()
        said = command.said()
        assert "Traceback" not in said, said
        assert code == 130 or (name.endswith("all") and code == 1), said
        assert "the same command goes on from there" in said
        assert [path for path in left_over(tmp_path) if ".scratch" not in path] == []
    assert longest < 10
    assert run("sweep", ["2"], tmp_path)[0] == 0
    COUNTS.append(f"stop: {number + 1} times {name}: ended after at most {longest:.1f} s, nothing half-written left")
