"""Runs of the product as processes that can be killed, in three forms that all work on one store.

A plain start imports for ten seconds and composes configurations for three, which would be most of what a kill hits.
So a server (multiprocessing's forkserver) has imported everything and composed the sweep once; runs are forked from it.

sweep     what scripts/run.py -m does after Hydra has composed the arms: run_arms with jobs, then the rows of each arm
command   scripts/<name>.py as it stands, in a process that has all imports done
plain     the same with the interpreter and the workers started anew, as a user does
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from cwpo.config.schema import CONF

REPO = CONF.parent
TESTS = REPO / "tests"
SHARD = 24  # rows: tables of a toy run come in several shards
# A sweep of four arms that share stages, each stage a fraction of a second.
TINY = (
    "world.sequences=256 world.batch_size=64 data.pairs=96 data.test_pairs=16 evaluation.prompts=16 "
    "annotator.training.epochs=1 alignment.epochs=1 generation.max_new_tokens=4"
).split()
SWEEP = ["-m", "method=human,cw_po", "seed=0,1", "name=faults", *TINY]


def server() -> Any:
    """The context whose processes are forked with everything imported."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", COLUMNS="160")
    paths = [str(REPO), str(TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.imports"])
    return context


class Command:
    """One run of scripts/<script>.py in `folder`, or of the sweep itself. Its output goes to `log`."""

    def __init__(
        self, script: str, words: list[str], folder: Path, *, plain: bool = False, user: int | None = None
    ) -> None:
        self.log = folder.parent / f"log-{time.monotonic_ns()}"  # not on a disk that a test fills up
        self.log.touch()
        self.plain = plain
        if plain:
            launcher = [sys.executable, str(TESTS / "harness" / "plain.py"), script, *words]
            with self.log.open("w") as out:
                self.process: Any = subprocess.Popen(
                    launcher, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=_environment(),
                    start_new_session=True,
                )  # fmt: skip
        else:
            self.process = server().Process(target=_forked, args=(script, words, str(folder), str(self.log), user))
            self.process.start()
        self.pid: int = self.process.pid

    def tree(self) -> list[psutil.Process]:
        """The command's process and its workers, those that live."""
        try:
            parent = psutil.Process(self.pid)
            workers = [p for p in parent.children(recursive=True) if _is_worker(p)]
            return [parent, *workers]
        except psutil.NoSuchProcess:
            return []

    def wait(self, timeout: float = 120) -> int:
        """The exit code; negative for the signal that ended it. Raises TimeoutError."""
        if self.plain:
            try:
                return self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"still running: {self.said()}") from None
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutError(f"still running: {self.said()}")
        return self.process.exitcode

    def running(self) -> bool:
        return self.process.poll() is None if self.plain else self.process.exitcode is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """Make sure that nothing of it lives."""
        for process in self.tree():
            process.kill()
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)


def run(script: str, words: list[str], folder: Path, user: int | None = None) -> tuple[int, str]:
    """Exit code and output of a command run to its end, as another `user` if wanted."""
    command = Command(script, words, folder, user=user)
    return command.wait(), command.said()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _environment() -> dict[str, str]:
    server()
    return dict(os.environ)


def _forked(script: str, words: list[str], folder: str, log: str, user: int | None) -> None:
    os.setsid()
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_APPEND), (2, os.O_WRONLY | os.O_APPEND)):
        handle = os.open(os.devnull if number == 0 else log, flags)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    os.chdir(folder)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fork = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: fork  # type: ignore[assignment,misc]  # workers in no time, too
    start(script, words)


def start(script: str, words: list[str]) -> None:
    """Run scripts/<script>.py in this process; "sweep" is SWEEP without Hydra."""
    import cwpo.store.shards

    cwpo.store.shards.SHARD = SHARD
    if script == "sweep":
        _sweep(*map(int, words))
        return
    file = REPO / "scripts" / f"{script}.py"
    sys.argv = [str(file), *words]
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    exec(code, {"__name__": "__main__", "__file__": str(file)})


def _sweep(jobs: int, stages: int | None = None) -> None:
    """The whole sweep and its rows, or only its first `stages` stages."""
    from cwpo.commands import entry
    from cwpo.execution.node import Settings
    from cwpo.execution.workers import run_arms
    from cwpo.pipeline.arms import distinct
    from cwpo.pipeline.record import record
    from cwpo.store.store import Store
    from harness.imports import ARMS

    def main() -> None:
        settings = Settings.of(ARMS[0].cfg)
        if stages is not None:
            first = dataclasses.replace(ARMS[0], run=distinct(ARMS)[:stages])
            run_arms([first], settings, jobs=jobs, title="faults")
            return
        run_arms(ARMS, settings, jobs=jobs, title="faults")
        for made in ARMS:
            record([made], Store(settings.store), Path(made.cfg.results), experiment="faults", whole=False)

    entry.entry(main)()
