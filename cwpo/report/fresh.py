"""Whether the report stands for its inputs already, so that calling for it twice costs nothing the second time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from cwpo.store.digests import code, digest

STAMP = ".report.json"


def up_to_date(folder: Path, inputs: Iterable[Path]) -> list[Path] | None:
    """The files of the last report in `folder` if nothing has changed: its inputs, our code, or a file it wrote. Else None."""
    stamp = folder / STAMP
    try:
        last = json.loads(stamp.read_text(encoding="utf-8"))
        written = [folder / name for name in last["written"]]
        same = last["inputs"] == digest([*inputs, *code()]) and last["output"] == digest(written)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return written if same else None


def remember(folder: Path, inputs: Iterable[Path], written: Sequence[Path]) -> None:
    """Note what the report was made from and what it wrote; `written` lies in `folder`."""
    note = {
        "inputs": digest([*inputs, *code()]),
        "output": digest(written),
        "written": [path.relative_to(folder).as_posix() for path in written],
    }
    (folder / STAMP).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
