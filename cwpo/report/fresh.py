"""Keeps a file of digests, which tells whether the last report is up to date and need not be built again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import cwpo
from cwpo.pages import TEMPLATES

STAMP = ".report.json"
KINDS = ("tables", "figures")  # folders of a report


def up_to_date(folder: Path, inputs: str) -> list[Path] | None:
    """Returns the last report's files in `folder`; None if one is missing or changed, or if they had other `inputs`."""
    try:
        last = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        written = [folder / name for name in last["written"]]
        same = last["inputs"] == inputs and last["output"] == _digest(written)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return written if same else None


def remove_others(folder: Path, written: Sequence[Path]) -> None:
    """Deletes from `folder` the last report's tables and figures that are not in `written`: their runs are gone."""
    try:
        names = json.loads((folder / STAMP).read_text(encoding="utf-8"))["written"]
        old = [folder / kind / Path(name).name for name in names for kind in KINDS if name.startswith(f"{kind}/")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for path in set(old) - set(written):
        path.unlink(missing_ok=True)


def remember(folder: Path, inputs: str, written: Sequence[Path]) -> None:
    """Stores in `folder` what up_to_date reads: `inputs` (see digest_of), names and digest of the files `written`."""
    note = {
        "inputs": inputs,
        "output": _digest(written),
        "written": [path.relative_to(folder).as_posix() for path in written],
    }
    (folder / STAMP).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def digest_of(inputs: Iterable[Path]) -> str:
    """Returns one digest of the files `inputs` and of the code and templates that make a report from them."""
    return _digest([*inputs, *_code(), *sorted(TEMPLATES.iterdir())])


def _code() -> list[Path]:
    return sorted(Path(cwpo.__file__).parent.rglob("*.py"))


def _digest(paths: Iterable[Path]) -> str:
    """Returns the hex SHA-256 of the names and bytes of files; a missing file counts as b"missing"."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing")
    return whole.hexdigest()
