"""The manifest of a finished stage: its inputs and its files, with digests that show any later change.

It is JSON. The last entry `sha256` is the digest of the other entries, so that a change to the manifest itself shows
too. Older manifests without this entry are accepted.
"""

import hashlib
import json
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwpo.errors import CwpoError

MANIFEST = "manifest.json"
SEAL = "sha256"
FIELDS = frozenset(
    "stage key version config parents seed summary seconds peak_memory_mb host git_commit packages files".split()
)
HASHED_ON_USE = 64 * 2**20  # bytes, which take 0.1 s to hash; of larger files only the size is checked on use


class StoreError(CwpoError, RuntimeError):
    """A stage folder is damaged or gone, or a live run uses a store that a command wants to clean."""


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes manifest.json to `folder`: `manifest`, which has all FIELDS, and then its digest as the entry `sha256`."""
    (folder / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the folder's manifest without its digest `sha256`. Raises StoreError if it is missing or was changed."""
    file = folder / MANIFEST
    try:
        text = file.read_bytes().decode()
        manifest = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(folder):
            raise StoreError(f"{folder} is gone, perhaps deleted; run the same command again to compute it") from None
        raise damaged(folder, f"{file} is missing") from None
    except IsADirectoryError:
        raise damaged(folder, f"{file} is damaged: it is a folder") from None
    except (ValueError, RecursionError):
        raise damaged(folder, f"{file} is damaged: it is not JSON") from None
    whole = isinstance(manifest, dict) and manifest.keys() >= FIELDS
    sealed = whole and SEAL in manifest
    if not whole or not (sealed or manifest.keys() == FIELDS):
        raise damaged(folder, f"{file} is damaged: it lacks entries or has unknown ones")
    manifest.pop(SEAL, None)
    if sealed and _sealed(manifest) != text:
        raise damaged(folder, f"{file} is damaged: it differs from what was written")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises StoreError unless the folder's files have the names, sizes and digests that the manifest lists.

    Of files above HASHED_ON_USE bytes only sizes are compared.
    """
    if damage := damaged_files(folder, manifest, HASHED_ON_USE):
        (name, what), *others = damage.items()
        more = f" (and {len(others)} more)" if others else ""
        raise damaged(folder, f"{folder / name} is damaged: {what}{more}")


def damaged_files(folder: Path, manifest: Mapping[str, Any], hashed: float) -> dict[str, str]:
    """Returns {file: reason} for files that are missing, differ from the manifest, or are not in it; {} if none.

    Of files of more than `hashed` bytes only the size is compared, not the digest.
    """
    damage = {name: _damage(folder / name, entry, hashed) for name, entry in manifest["files"].items()}
    there = {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}
    for name in sorted(there - {*manifest["files"], MANIFEST}):
        if not Path(name).name.startswith("."):  # hidden files of desktops and network file systems
            damage[name] = "the stage did not write it"
    return {name: what for name, what in damage.items() if what}


def _damage(file: Path, entry: Mapping[str, Any], hashed: float) -> str | None:
    written = f"{entry['bytes']} bytes were written"
    try:
        there = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"{written}, it is missing"
    if not stat.S_ISREG(there.st_mode):
        return f"{written}, it is {'a folder' if file.is_dir() else 'not a file'}"
    if there.st_size != entry["bytes"]:
        return f"{written}, {there.st_size} are there"
    if there.st_size <= hashed and sha256(file) != entry["sha256"]:
        return "it differs from what was written"
    return None


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns {relative path: {"bytes": size, "sha256": hex digest}} of all files in a folder and its subfolders."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(f.relative_to(folder)): {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files}


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sealed(manifest: Mapping[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(manifest, indent=1).encode()).hexdigest()
    return json.dumps({**manifest, SEAL: seal}, indent=1) + "\n"


def damaged(folder: Path, what: str) -> StoreError:
    """Returns a StoreError whose message is `what`, followed by how to compute the stage in `folder` again."""
    words = (f"store={folder.parent.parent}", f"stages=[{folder.parent.name}/{folder.name}]")
    command = f"python scripts/store.py action=drop {shlex.join(words)}"
    return StoreError(f"{what}; delete {folder}, or run {command}, to compute it again")
