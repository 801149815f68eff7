"""Runs a training stage in several processes with `accelerate launch`.

The sweep's process writes the job as JSON, starts the stage's processes (each runs cwpo.execution.member), and passes
on the training curve that rank 0 writes. If the sweep's process is stopped, it ends the stage's processes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.errors import CwpoError, InputError
from cwpo.stages.base import Work

POLL = 0.2  # seconds between two looks at the events
GRACE = 20.0  # seconds from SIGTERM to SIGKILL
AS_THEY_ARE = ("device", "token_budget", "checkpoint_minutes", "checkpoint_steps")  # fields of Work in the job


class LaunchFailed(CwpoError, RuntimeError):
    """Raised if a process of a stage fails. The message is one line and ends in the path of the stage's log."""


def launch(stage: str, work: Work, how: str, processes: int, threads: int) -> Mapping[str, Any]:
    """Runs a stage in several processes (`how`: ddp, fsdp); returns its summary. Raises InputError or LaunchFailed."""
    folder = work.kept("launch")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    log = folder / "log.txt"
    (folder / "job.json").write_text(json.dumps(_job(stage, work, how)), encoding="utf-8")
    words = command(folder / "job.json", how, processes)
    given: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, env=_environment(threads), **given)
    try:
        summary = None
        for event in _events(folder / "events.jsonl", process):
            if "progress" in event:
                work.progress(*event["progress"])
            elif "log" in event:
                work.tracker.log(event["log"], event["step"])
            elif "summary" in event:
                summary = event["summary"]
    finally:
        _end(process)
    if process.returncode or summary is None:
        raise _failure(folder, processes, process.returncode)
    return summary


def command(job: Path, how: str, processes: int) -> list[str]:
    """Returns a command line: `accelerate launch` runs the file `job` in that many processes; `how`: ddp or fsdp."""
    config = str(CONF / "accelerate" / f"{how}.yaml")
    launcher = ["-m", "accelerate.commands.launch", "--config_file", config]
    launcher += ["--num_processes", str(processes)]
    return [sys.executable, *launcher, "-m", "cwpo.execution.member", str(job)]


def _job(stage: str, work: Work, how: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "config": OmegaConf.to_container(work.config, resolve=True),
        "parents": {role: str(path) for role, path in work.parents.items()},
        "out": str(work.out),
        "scratch": str(work.scratch),
        "settings": {name: getattr(work, name) for name in AS_THEY_ARE} | {"sharded": how == "fsdp"},
        "parent": os.getpid(),
    }


def _environment(threads: int) -> dict[str, str]:
    paths = [str(CONF.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": str(threads)}


def _events(file: Path, process: subprocess.Popen) -> Iterator[dict[str, Any]]:
    """Yields the events that the process of rank 0 writes to `file`, as they come, until all processes have ended."""
    read = 0  # bytes of complete lines so far
    while True:
        ended = process.poll() is not None
        fresh = file.read_bytes()[read:] if file.is_file() else b""
        whole = fresh[: fresh.rfind(b"\n") + 1]
        read += len(whole)
        yield from map(json.loads, whole.splitlines())
        if ended:
            return
        time.sleep(POLL)


def _end(process: subprocess.Popen) -> None:
    """Ends every process of the group: by SIGTERM, then by SIGKILL after at most GRACE seconds."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _failure(folder: Path, processes: int, code: int) -> Exception:
    """Returns the InputError that a process raised, else LaunchFailed with the first error, the cause of later ones."""
    files = sorted(folder.glob("failure-*.json"), key=lambda file: file.stat().st_mtime_ns)
    failures = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for failure in failures:
        if failure["problems"]:
            return InputError(failure["problems"])
    reason = failures[0]["reason"] if failures else f"they ended with code {code}"
    return LaunchFailed(f"failed in {processes} processes: {reason}; log: {folder / 'log.txt'}")
