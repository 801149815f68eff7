"""Defines Stage (what a stage reads, its version, how it is run) and Work (what the `run` function of a stage gets)."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from cwpo.tracking import Tracker

Run = Callable[["Work"], Mapping[str, Any]]


@dataclass(frozen=True)
class Work:
    """All that a stage's `run` gets: the folder `out` to write to, the config keys that it declares, {role: folder} of
    its parents, and how to run. `scratch`, made when needed, stays if the process is killed: a later run of the stage
    finds it. `sharded`: whether each of several processes, which all run the stage, holds a part of the trained model.
    """

    out: Path
    config: DictConfig
    parents: Mapping[str, Path]
    tracker: Tracker
    device: str = "cpu"
    token_budget: int | str | None = None
    scratch: Path | None = None
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    sharded: bool = False
    progress: Callable[[int, int], None] = lambda done, total: None

    def site(self, name: str = "model", checkpoints: str = "checkpoints", log: Any = None) -> Any:
        """Returns the cwpo.training.fit.Site of a training that writes its model to the folder `name` in `out`.

        `checkpoints`, the name of a folder in `scratch`, must differ between trainings of one stage. `log` replaces the
        tracker's log function.
        """
        from cwpo.training.checkpoints import Schedule  # late: it imports torch
        from cwpo.training.fit import Site

        return Site(
            self.out / name,
            self.device,
            self.token_budget,
            self.scratch / checkpoints if self.scratch is not None else None,
            Schedule(self.checkpoint_steps, self.checkpoint_minutes),
            self.sharded,
            log or self.tracker.log,
            self.progress,
        )

    def kept(self, name: str = "shards") -> Path:
        """Returns the folder for finished shards of a table, which a later run reuses.

        It is in `scratch` if that is set, else in `out`.
        """
        return (self.scratch or self.out) / name

    def table(self, role: str, file: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Returns the Parquet file `file` in the folder self.parents[role]; columns=None reads all columns."""
        return pd.read_parquet(self.parents[role] / file, columns=columns)

    def write_json(self, file: str, values: Mapping[str, Any]) -> None:
        (self.out / file).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @property
    def tokens(self) -> int | None:
        """The number of tokens to score at once, None for no limit; see cwpo.data.batching.tokens_at_once."""
        from cwpo.data.batching import tokens_at_once  # late: it imports torch

        return tokens_at_once(self.token_budget, self.device)

    @property
    def first(self) -> bool:
        """Whether this is the only process, or the first of several: the one that writes."""
        return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Stage:
    """A pure function of the config keys in `reads` (dotted paths; a group stands for all its keys) and its parents.

    `version` goes up when the same input would give another output. `run` writes files into `Work.out` and returns a
    summary, JSON values, for the manifest. The fields after `run` are not hashed into the stage's key.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    run: Run
    launched: bool = False  # a training that several processes can share
    light: bool = False  # reads and writes files only: no job of its own on a cluster
    early: bool = False  # slow, and other stages wait for it: of several ready stages it starts first
    measure: bool = False  # the results record its numbers too, beside those of an arm's last stage
    trains: str | None = None  # "weak" or "strong": the model of the pair that it trains and writes
    output: str = "."  # the folder, inside the stage's folder, that child stages read
