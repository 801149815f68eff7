"""Curves and results of a stage: JSON lines always, Weights & Biases on request."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class Tracker:
    """One stage's log. `metrics.jsonl` in the stage's folder, and a W&B run of its own when `wandb` settings are given.

    A W&B run is created here and finished on leaving the block, with exit code 1 after an error, so two stages of one
    process never share one.
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
            import wandb as client

            (wandb_dir or folder).mkdir(parents=True, exist_ok=True)
            self._run = client.init(
                project=wandb["project"],
                entity=wandb["entity"],
                mode=wandb_mode(wandb["mode"]),
                id=key,
                name=f"{stage}-{key[:8]}",
                group=group,
                job_type=stage,
                config=dict(config),
                dir=str(wandb_dir or folder),
                reinit="create_new",
                settings=client.Settings(silent=True, console="off"),
            )

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """One row of a curve; `step` counts optimiser steps."""
        row = dict(values) if step is None else {"step": step, **values}
        self._file.write(json.dumps(row) + "\n")
        if self._run is not None:
            self._run.log(dict(values), step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final numbers of the stage."""
        if self._run is not None:
            self._run.summary.update(dict(values))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._file.close()
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)


def wandb_mode(mode: str) -> Any:
    """`auto` is online where an API key is at hand (environment or ~/.netrc), else offline."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    netrc = Path("~/.netrc").expanduser()
    has_key = bool(os.environ.get("WANDB_API_KEY")) or (
        netrc.is_file() and "wandb" in netrc.read_text(errors="replace")
    )
    return "online" if has_key else "offline"
