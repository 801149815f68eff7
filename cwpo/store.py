"""The experiment store: finished stages, each in a folder named by the hash of everything that made it.

<root>/<stage>/<key>/           a finished stage: its files and manifest.json, the last file written
<root>/.partial/<stage>-<key>   being written; renamed into place when complete, removed when found stale
<root>/.scratch/<stage>-<key>   parts that a killed stage can go on from; removed when it is finished
<root>/.locks/                  one lock file per key; the operating system frees it when its holder dies
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from cwpo.runtime import peak_memory_mb

MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "pandas", "peft")


class StoreError(RuntimeError):
    """A stage folder is damaged."""


def stage_key(stage: str, version: int, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """16 hex digits from the stage's name and version, its slice of the config and its parents' keys."""
    text = json.dumps([stage, version, config, parents], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """Content-addressed stage folders under `root`. Safe for many processes at once."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def scratch(self, stage: str, key: str) -> Path:
        """Where a stage may keep parts of its work until it is finished. Not made here."""
        return self.root / ".scratch" / f"{stage}-{key}"

    def has(self, stage: str, key: str) -> bool:
        """Whether the stage is finished. Folders appear only when complete, so the manifest's existence is enough."""
        return (self.folder(stage, key) / MANIFEST).is_file()

    def manifest(self, stage: str, key: str) -> dict[str, Any]:
        """The manifest of a finished stage, with its files' sizes checked; raises StoreError where they differ."""
        folder = self.folder(stage, key)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, entry in manifest["files"].items():
            file = folder / name
            size = file.stat().st_size if file.is_file() else None
            if size != entry["bytes"]:
                raise StoreError(
                    f"{file} is damaged: {entry['bytes']} bytes were written, "
                    f"{'it is missing' if size is None else f'{size} are there'}; delete {folder} to compute it again"
                )
        return manifest

    def verify(self) -> list[str]:
        """One line per file whose sha256 differs from its manifest, or that is missing."""
        problems = []
        for path in sorted(self.root.glob(f"[!.]*/*/{MANIFEST}")):
            for name, entry in json.loads(path.read_text(encoding="utf-8"))["files"].items():
                file = path.parent / name
                if not file.is_file():
                    problems.append(f"{file} is missing")
                elif sha256(file) != entry["sha256"]:
                    problems.append(f"{file} differs from what was written")
        return problems

    def compute(
        self,
        stage: str,
        key: str,
        work: Callable[[Path], Mapping[str, Any]],
        *,
        config: Mapping[str, Any],
        parents: Mapping[str, str],
        seed: int | None,
        version: int,
    ) -> bool:
        """Finish the stage unless it is finished; True if this call ran `work(folder)`, whose result is the summary.

        Only one process works on a key; the others wait and find it done. A killed run leaves nothing that looks
        finished.
        """
        if self.has(stage, key):
            return False
        with self._lock(stage, key):
            if self.has(stage, key):
                return False
            partial = self.root / ".partial" / f"{stage}-{key}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                started = time.perf_counter()
                summary = work(partial)
                manifest = {
                    "stage": stage,
                    "key": key,
                    "version": version,
                    "config": config,
                    "parents": parents,
                    "seed": seed,
                    "summary": dict(summary),
                    "seconds": round(time.perf_counter() - started, 3),
                    "peak_memory_mb": round(peak_memory_mb(), 1),
                    "host": platform.node(),
                    "git_commit": git_commit(),
                    "packages": package_versions(),
                    "files": {
                        str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": sha256(file)}
                        for file in sorted(partial.rglob("*"))
                        if file.is_file()
                    },
                }
                self._finish(partial, self.folder(stage, key), manifest)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return True

    def _finish(self, partial: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            _fsync(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without a manifest: someone deleted it by hand
        os.rename(partial, folder)
        _fsync(folder.parent)
        shutil.rmtree(self.scratch(folder.parent.name, folder.name), ignore_errors=True)

    @contextmanager
    def _lock(self, stage: str, key: str) -> Iterator[None]:
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{stage}-{key}.lock"):
            yield


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(path: str | Path) -> str:
    """A digest of what lies at a local path: the bytes of a file, or of a folder's files and their names."""
    path = Path(path).expanduser()
    stamps = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in _files(path))
    return _fingerprint(path, stamps)


@cache
def _fingerprint(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    files = [(f.name if path.is_file() else str(f.relative_to(path)), sha256(f)) for f in _files(path)]
    return hashlib.sha256(json.dumps(files if path.is_dir() else files[0][1]).encode()).hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())


@cache
def git_commit() -> str:
    """The commit of the code, with `+` where tracked files differ from it; empty outside a repository."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "cwpo", "conf", "scripts")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def package_versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
