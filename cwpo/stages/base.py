"""What a stage is given and what it declares; how it trains and saves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cwpo.tracking import Tracker

Run = Callable[["Work"], Mapping[str, Any]]


@dataclass(frozen=True)
class Work:
    """Everything a stage's `run` may read: where to write, its slice of the config, its parents' folders.

    `scratch` is a folder, made when needed, that outlives a kill; what a stage leaves there it finds when run again.
    `sharded` says that each of several processes holds a part of the model under training; all of them run the stage.
    """

    out: Path
    config: DictConfig
    parents: Mapping[str, Path]
    tracker: Tracker
    device: str = "cpu"
    token_budget: int | None = None
    scratch: Path | None = None
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    sharded: bool = False
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def loading_device(self) -> str:
        """Where a model to be trained is loaded: a sharded one may be too large for the device."""
        return "cpu" if self.sharded else self.device

    @property
    def first(self) -> bool:
        """Whether this is the only process, or the first of several: the one that writes."""
        return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Stage:
    """A pure function of the config keys in `reads` (dotted paths; a group stands for all its keys) and its parents.

    `version` goes up when the same input would give another output. `run` writes files into `Work.out` and returns a
    summary of JSON values for the manifest. The other fields say how to run the stage and never enter a key.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    run: Run
    launched: bool = (
        False  # a training that several processes can share; `run` stands in the module cwpo.stages.<name>
    )
    light: bool = False  # reads and writes files only: no job of its own on a cluster
    early: bool = False  # long, and others wait for it: it starts first where several stages are ready
    measure: bool = False  # recorded in the results beside the stages that an arm ends in
    trains: str | None = None  # "weak" or "strong": the model of the pair that it trains and writes
    output: str = "."  # the folder inside its own that children read


def training_arguments(work: Work, training: Any, *, rows: int, seed: int, part: str = "checkpoints") -> Any:
    """transformers' TrainingArguments of a TrainingConfig in this stage; see cwpo.training.base.

    `part` names the training where a stage has several: it is the folder of the checkpoints.
    """
    from cwpo.training import base  # late: it imports torch

    output = work.scratch / part if work.scratch and _schedule(work) else work.out
    # Processes that share a model's weights must run it equally often, so each takes micro_batch_size rows at a time.
    budget = None if work.sharded else work.token_budget
    return base.training_arguments(
        training, output, rows=rows, seed=seed, device=work.device, token_budget=budget
    )


def train(work: Work, trainer: Any) -> float:
    """Train with the checkpoints that the run asks for; seconds spent, those before a kill included."""
    from cwpo.training.checkpoints import train as run

    return run(trainer, _schedule(work))


def _schedule(work: Work) -> Any:
    """When to write checkpoints; never without a place for them."""
    from cwpo.training.checkpoints import Schedule

    kept = work.scratch is not None
    return Schedule(work.checkpoint_steps, work.checkpoint_minutes) if kept else Schedule()


def save(work: Work, trainer: Any, tokenizer: Any, name: str, fresh: Callable[[], Any]) -> None:
    """The trained model as an ordinary checkpoint in the folder `name`, adapters merged; the first process writes it.

    `fresh` gives a model of the same shape, into which the parts of a sharded one are put together.
    """
    from cwpo.training.saving import save_trained

    save_trained(trainer, tokenizer, work.out / name, fresh=fresh)
