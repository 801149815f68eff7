"""File digests, used to tell whether derived results are up to date."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cwpo


def digest(paths: Iterable[Path]) -> str:
    """Returns the hex SHA-256 of the names and bytes of files; a missing file counts as b"missing"."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing")
    return whole.hexdigest()


def code() -> list[Path]:
    """Returns the Python files of cwpo, sorted."""
    return sorted(Path(cwpo.__file__).parent.rglob("*.py"))
