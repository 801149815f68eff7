"""A cache of the hub as its client fills one: blobs, snapshots that link to them, refs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path


def add(hub: Path, kind: str, name: str, content: Path, commit: str, ref: str | None = None) -> Path:
    """Put the files of a folder into the cache `hub` as the model or data set `name` at a commit, and at a ref."""
    repo = hub / f"{kind}--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    for file in sorted(f for f in content.rglob("*") if f.is_file()):
        blob = repo / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        link = snapshot / file.relative_to(content)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if ref is not None:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return snapshot
