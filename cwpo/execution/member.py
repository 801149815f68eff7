"""Runs one process of a stage: `accelerate launch ... -m cwpo.execution.member JOB`; see cwpo.execution.processes."""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.errors import InputError
from cwpo.pipeline.graph import KINDS
from cwpo.runtime import quiet_libraries, use_threads
from cwpo.stages.base import Work
from cwpo.tracking import Tracker


class Reports(Tracker):
    """Writes a stage's curve, progress and summary to `file` as JSON lines. The sweep reads only the file of rank 0."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8")
        self._run = None

    def say(self, **event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.say(log=dict(values), step=step)


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text(encoding="utf-8"))
    rank, folder = int(os.environ["RANK"]), job_file.parent
    threading.Thread(target=_end_with, args=(job["parent"],), daemon=True).start()
    use_threads(int(os.environ["OMP_NUM_THREADS"]))
    quiet_libraries()
    with tempfile.TemporaryDirectory() as other:
        reports = Reports(folder / "events.jsonl" if rank == 0 else Path(other) / "events.jsonl")
        work = Work(
            out=Path(job["out"]),
            config=OmegaConf.create(job["config"]),
            parents={role: Path(path) for role, path in job["parents"].items()},
            tracker=reports,
            scratch=Path(job["scratch"]),
            progress=lambda done, total: reports.say(progress=[done, total]),
            **job["settings"] | {"device": _join(job["settings"]["device"])},
        )
        try:
            reports.say(summary=dict(KINDS[job["stage"]].run(work)))
        except Exception as error:
            problems = error.problems if isinstance(error, InputError) else []
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            failure = json.dumps({"problems": problems, "reason": reason})
            (folder / f"failure-{rank}.json").write_text(failure, encoding="utf-8")
            raise
    import torch

    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _join(device: str) -> str:
    """Joins the process group and returns the device of this process."""
    import torch
    from accelerate import PartialState

    own = device if device == "cpu" else f"{device.partition(':')[0]}:{os.environ['LOCAL_RANK']}"
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    PartialState(cpu=own == "cpu")
    return own


def _end_with(parent: int) -> None:
    """Ends this process when the process `parent` (its id) is gone, so that no GPU stays busy."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
