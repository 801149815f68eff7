"""What a stage is given and what it declares."""

from __future__ import annotations

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
    """

    out: Path
    config: DictConfig
    parents: Mapping[str, Path]
    tracker: Tracker
    device: str = "cpu"
    token_budget: int | None = None
    scratch: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Stage:
    """A pure function of the config keys in `reads` (dotted paths; a group stands for all its keys) and its parents.

    `version` goes up when the same input would give another output. `run` writes files into `Work.out` and returns a
    summary of JSON values for the manifest.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    run: Run


def training_arguments(work: Work, training: Any, *, rows: int, seed: int) -> Any:
    """transformers' TrainingArguments of a TrainingConfig in this stage; see cwpo.training.base."""
    from cwpo.training import base  # late: it imports torch

    return base.training_arguments(
        training, work.out, rows=rows, seed=seed, device=work.device, token_budget=work.token_budget
    )
