"""Writes checkpoints of a running training, and resumes from the newest intact one after the process was killed.

Weights are safetensors. Optimiser, scheduler and random states are torch files of our own making; transformers reads
them with weights_only, which runs no code. A checkpoint is valid once it has its seal, a file that is written last. The
seal holds the sizes and digests of all its files, and the layout: the number of processes, sharding and optimiser. A
checkpoint that is incomplete, damaged or of another layout is deleted, and an older one is used.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from cwpo.atomic import sync, write_text
from cwpo.store.manifest import damaged_files, file_digests
from cwpo.training.base import GlobalMeanTrainer

SEAL = ".sealed.json"
ARGUMENTS = "training_args.bin"  # a pickle that nobody reads


@dataclass(frozen=True)
class Schedule:
    """When to write checkpoints: every `steps` optimiser steps, and `minutes` after the last one. Both None: never."""

    steps: int | None = None
    minutes: float | None = None

    def __bool__(self) -> bool:
        return self.steps is not None or self.minutes is not None


def train(trainer: GlobalMeanTrainer, schedule: Schedule) -> float:
    """Trains, from the newest intact checkpoint in args.output_dir if there is one; returns the training's seconds.

    The seconds include those of earlier runs up to that checkpoint. Weights and curve are, bit for bit, those of an
    uninterrupted training. If `schedule` has neither steps nor minutes, no checkpoint is read or written.
    """
    if not schedule:
        return trainer.train().metrics["train_runtime"]
    start = newest(trainer.args)
    keeper = Checkpoints(trainer, schedule, start)
    trainer.add_callback(keeper)
    result = trainer.train(resume_from_checkpoint=str(start) if start else None)
    return keeper.spent_before + result.metrics["train_runtime"]


class Checkpoints(TrainerCallback):
    """Asks the trainer for a checkpoint when one is due; adds the state of the logs (`window`) and the seal to it."""

    def __init__(self, trainer: GlobalMeanTrainer, schedule: Schedule, start: Path | None) -> None:
        self.trainer, self.schedule, self.start = trainer, schedule, start
        self.spent_before = 0.0
        self._asked = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = self._last = time.monotonic()
        if self.start is not None:
            values = json.loads((self.start / _window_name(args)).read_text(encoding="utf-8"))
            self.spent_before = values["seconds"]
            self.trainer.restore_window(values)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            return
        self._asked = self._asked or self._due(args, state.global_step)
        if self._asked and self.trainer.between_rounds:
            control.should_save, self._asked = True, False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        spent = self.spent_before + time.monotonic() - self._begun
        window = json.dumps(self.trainer.window() | {"seconds": spent})
        (folder / _window_name(args)).write_text(window, encoding="utf-8")
        if args.world_size > 1:
            torch.distributed.barrier()  # wait until every process has written its part
        if state.is_world_process_zero:
            (folder / ARGUMENTS).unlink(missing_ok=True)
            seal(folder, _layout(args))
        self._last = time.monotonic()

    def _due(self, args: TrainingArguments, step: int) -> bool:
        if self.schedule.steps is not None and step % self.schedule.steps == 0:
            return True
        if self.schedule.minutes is None:
            return False
        due = time.monotonic() - self._last >= 60 * self.schedule.minutes
        if args.world_size > 1:  # clocks differ, and all must save at the same step: the first process decides
            decided = torch.tensor(int(due), device=args.device)
            torch.distributed.broadcast(decided, src=0)
            due = bool(decided)
        return due


def seal(folder: Path, layout: dict[str, Any]) -> None:
    """Declares a checkpoint complete: flushes its files to disk, then writes SEAL with their digests and `layout`."""
    (folder / SEAL).unlink(missing_ok=True)
    files = file_digests(folder)
    for name in files:
        sync(folder / name)
    write_text(folder / SEAL, json.dumps({"layout": layout, "files": files}))


def newest(args: TrainingArguments) -> Path | None:
    """Returns the newest checkpoint that is `intact`, or None. Process 0 deletes newer ones: they are not intact."""
    for checkpoint in sorted(Path(args.output_dir).glob("checkpoint-*"), key=_step, reverse=True):
        if intact(checkpoint, _layout(args)):
            return checkpoint
        if args.process_index == 0:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def intact(checkpoint: Path, layout: dict[str, Any]) -> bool:
    """Whether a checkpoint is sealed, its files have not changed, and its layout is `layout`."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        return layout.items() <= sealed["layout"].items() and not damaged_files(checkpoint, sealed, float("inf"))
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return False


def _layout(args: TrainingArguments) -> dict[str, Any]:
    """Returns what a resumed run must keep: number of processes, sharding, optimiser."""
    return {
        "processes": args.world_size,
        "fsdp": os.environ.get("ACCELERATE_USE_FSDP", "false"),
        "optimizer": str(args.optim),
    }


def _window_name(args: TrainingArguments) -> str:
    return f"window-{args.process_index}.json"


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
