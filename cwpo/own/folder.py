"""Folders of results: complete or not there, and a hidden one beside each in which a stopped run's work waits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from cwpo.errors import InputError
from cwpo.store.store import fingerprint, stage_key

NOTE = "annotator.json"  # beside the weights: that they were trained here, and how many members there are
ELSEWHERE = ("out", "threads", "device", "token_budget")  # keys on which no result depends


@contextmanager
def workplace(out: Path, cfg: Any, inputs: tuple[str, ...]) -> Iterator[Path]:
    """A folder beside `out` for the finished parts of this run. A later run with the same settings and inputs finds it again.

    `inputs` are the keys (dotted) whose values may be files or folders: their content counts, not their place. The folder is
    removed at the end and after an InputError, with those of stopped runs with other settings.
    """
    work = out.with_name(f".{out.name}-{_key(cfg, inputs)}")
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield work
    except Timeout:
        raise InputError(f"another run with the same settings is writing out={out} now") from None
    except (InputError, FloatingPointError):
        shutil.rmtree(work, ignore_errors=True)
        raise
    for old in out.absolute().parent.glob(f".{out.name}-*"):
        if re.fullmatch(re.escape(f".{out.name}-") + "[0-9a-f]{8}", old.name):
            _remove_idle(old)


def replace_folder(new: Path, out: Path) -> None:
    """Put the complete folder `new` in the place of `out`."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _remove_idle(work: Path) -> None:
    try:
        with FileLock(work / "lock", timeout=0):
            shutil.rmtree(work, ignore_errors=True)
    except (Timeout, OSError):
        return


def _key(cfg: Any, inputs: tuple[str, ...]) -> str:
    kept = OmegaConf.create({name: value for name, value in cfg.items() if name not in ELSEWHERE})
    for name in inputs:
        value = OmegaConf.select(kept, name)
        if isinstance(value, str) and Path(value).expanduser().exists():
            OmegaConf.update(kept, name, f"content:{fingerprint(value)}")
    plain: Any = OmegaConf.to_container(kept)
    return stage_key("own", 1, plain, {})[:8]


def read_note(folder: str | Path) -> dict[str, Any]:
    """kind and members of an annotator that was trained here."""
    return json.loads((Path(folder).expanduser() / NOTE).read_text(encoding="utf-8"))


def is_ours(path: str | None) -> bool:
    """Whether fit_members made what lies at `path`."""
    return path is not None and (Path(path).expanduser() / NOTE).is_file()


def checkpoint_of(path: str) -> str:
    """The folder of a model: an ensemble's first member, or `path` itself."""
    first = Path(path).expanduser() / "member0"
    return str(first) if first.is_dir() else path
