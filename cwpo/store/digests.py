"""File digests, used to tell whether derived results are up to date."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cwpo


def digest(paths: Iterable[Path]) -> str:
    """Hex SHA-256 of the names and bytes of files; a missing file counts as missing."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing")
    return whole.hexdigest()


def code() -> list[Path]:
    """The source files of this package."""
    return sorted(Path(cwpo.__file__).parent.rglob("*.py"))
