"""Makes result folders, which appear only when complete, and hidden work folders, from which a stopped run goes on."""

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

from cwpo.atomic import let_others_read
from cwpo.errors import InputError
from cwpo.store.store import fingerprint, stage_key

NOTE = "annotator.json"  # beside the weights of an annotator trained here: its kind and its number of members
ELSEWHERE = ("out", "threads", "device", "token_budget")  # keys on which no result depends


@contextmanager
def workplace(out: Path, cfg: Any, inputs: tuple[str, ...]) -> Iterator[Path]:
    """Yields a hidden work folder beside `out`; a stopped run, started again with equal settings, gets the same folder.

    The block makes the result in the folder work/out, which is not there at first; then it becomes `out`. `inputs`:
    dotted keys that may name files or folders; these are compared by their contents, not by their paths. The work
    folder is deleted after success, InputError and FloatingPointError. Success also deletes the work folders that
    stopped runs with other settings left for this `out`. Raises InputError if another run uses the work folder, or if
    the folder cannot be made.
    """
    work = out.with_name(f".{out.name}-{_key(cfg, inputs)}")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError) as error:  # below /proc, or behind a link to a disk that is not there
        raise InputError(
            f"out={out} cannot be created: no folder can be made at {error.filename}; name another"
        ) from None
    try:
        with FileLock(work / "lock", timeout=0):
            shutil.rmtree(work / "out", ignore_errors=True)
            yield work
            replace_folder(work / "out", out)
    except Timeout:
        raise InputError(f"another run with the same settings is writing out={out} now; wait, or change out") from None
    except (InputError, FloatingPointError):
        shutil.rmtree(work, ignore_errors=True)
        raise
    for old in out.parent.iterdir():
        if re.fullmatch(re.escape(f".{out.name}-") + "[0-9a-f]{8}", old.name):
            _remove_idle(old)


def replace_folder(new: Path, out: Path) -> None:
    """Moves the complete folder `new` to `out` and lets other users read it. An earlier folder `out` is deleted."""
    let_others_read(new)
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
    """Returns the note of an annotator that cwpo trained: {"kind": bt or pairrm, "members": number of models}."""
    return json.loads((Path(folder).expanduser() / NOTE).read_text(encoding="utf-8"))


def is_ours(path: str | None) -> bool:
    """Returns whether the folder `path` holds an annotator that fit_members wrote; False for None."""
    return path is not None and (Path(path).expanduser() / NOTE).is_file()


def checkpoint_of(path: str) -> str:
    """Returns the folder of the first member's model if `path` is an ensemble that cwpo trained, else `path` itself."""
    first = Path(path).expanduser() / "member0"
    return str(first) if first.is_dir() else path
