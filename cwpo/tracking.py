"""Logs the curves and results of a stage: as JSON lines always, to Weights & Biases (W&B) on request."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Tracker:
    """The log of one stage: `metrics.jsonl` in its folder, and a W&B run of its own if `wandb` settings are given.

    The W&B run starts with the Tracker and finishes when its `with` block ends, with exit code 1 after an error, so two
    stages of one process never share a run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stage: str,
        key: str,
        group: str,
        config: Mapping[str, Any],
        wandb: Mapping[str, Any] | None = None,
        wandb_dir: Path | None = None,
    ) -> None:
        self._file = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._run: Any = None
        if wandb is not None:
            name = f"{stage}-{key[:8]}"
            self._run = _start(
                wandb, wandb_dir or folder, id=key, name=name, group=group, job_type=stage, config=config
            )

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Logs one row of a curve; `step` counts optimiser steps."""
        row = dict(values) if step is None else {"step": step, **values}
        self._file.write(json.dumps(row) + "\n")
        if self._run is not None:
            self._run.log(dict(values), step=step)

    @property
    def shows(self) -> bool:
        """Whether there is a W&B run. Without one, `table` and `chart` do nothing; the stage's files hold the same."""
        return self._run is not None

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Logs a table of results to W&B."""
        if self._run is not None:
            self._run.log({name: _table(frame)})

    def chart(self, name: str, frame: pd.DataFrame, x: str, y: str, title: str) -> None:
        """Logs a line chart of column y over column x to W&B."""
        if self._run is not None:
            from wandb.plot import line

            self._run.log({name: line(_table(frame[[x, y]]), x, y, title=title)})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Logs the final numbers of the stage to W&B."""
        if self._run is not None:
            self._run.summary.update(dict(values))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)


def _start(wandb: Mapping[str, Any], folder: Path, *, config: Mapping[str, Any], **names: Any) -> Any:
    """Starts a W&B run. If a killed stage left a run with the same id, continues that run, unless W&B is offline."""
    import wandb as client

    folder.mkdir(parents=True, exist_ok=True)
    mode = wandb_mode(wandb["mode"])
    return client.init(
        project=wandb["project"],
        entity=wandb["entity"],
        mode=mode,
        config=dict(config),
        dir=str(folder),
        reinit="create_new",
        resume=None if mode == "offline" else "allow",
        settings=client.Settings(silent=True, console="off"),
        **names,
    )


def log_sweep(
    wandb: Mapping[str, Any] | None,
    group: str,
    folder: Path,
    table: pd.DataFrame,
    arms: Mapping[str, Mapping[str, Any]],
) -> None:
    """Logs a sweep to W&B as the group `group`: one run for each arm (job type `arm`), and one run with `table`.

    `arms`: arm's key -> {"config": seed and swept values, "summary": metrics}. From the arms' runs W&B can draw swept
    values and reward_mean as parallel coordinates. `wandb`: the settings of W&B; if None, nothing is logged.
    """
    if wandb is None:
        return
    for key, arm in arms.items():
        id = hashlib.sha256(f"{group} {key}".encode()).hexdigest()[:16]
        run = _start(wandb, folder, id=id, name=f"arm-{key[:8]}", group=group, job_type="arm", config=arm["config"])
        run.summary.update(dict(arm["summary"]))
        run.finish()
    axes = sorted({name for arm in arms.values() for name in arm["config"]})
    id = hashlib.sha256(" ".join([group, *arms]).encode()).hexdigest()[:16]
    run = _start(wandb, folder, id=id, name=f"sweep-{group}", group=group, job_type="sweep", config={"axes": axes})
    run.log({"sweep/arms": _table(table)})
    run.finish()


def _table(frame: pd.DataFrame) -> Any:
    from wandb import Table

    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return Table(columns=[str(column) for column in frame.columns], data=rows)


def wandb_mode(mode: str) -> Any:
    """Returns `mode`; for "auto", $WANDB_MODE, else "online" if WANDB_API_KEY or ~/.netrc has a key, else "offline"."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if has_wandb_key() else "offline"


def has_wandb_key() -> bool:
    netrc = Path("~/.netrc").expanduser()
    in_netrc = netrc.is_file() and "wandb" in netrc.read_text(errors="replace")
    return in_netrc or bool(os.environ.get("WANDB_API_KEY"))
