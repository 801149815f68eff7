"""Digests of files, by which what was made from them is known to stand for them still."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cwpo


def digest(paths: Iterable[Path]) -> str:
    """Of names and bytes; a path that is no file counts as such."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing")
    return whole.hexdigest()


def code() -> list[Path]:
    """Our own source files."""
    return sorted(Path(cwpo.__file__).parent.rglob("*.py"))
