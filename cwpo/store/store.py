"""The experiment store: finished stages, each in a folder named by the hash of all its inputs.

<root>/<stage>/<key>/           a finished stage: its files and manifest.json, the last file written
<root>/.partial/<stage>-<key>   being written; renamed into place when complete, removed when stale
<root>/.scratch/<stage>-<key>   finished parts of an unfinished stage, which goes on from them after a kill
<root>/.locks/                  one lock file per key; the operating system frees it when its holder dies

A finished folder is never written again. A run reports a damaged one and leaves it alone; see cwpo.commands.store.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cwpo.atomic import let_others_read, sync
from cwpo.runtime import peak_memory_mb
from cwpo.store import manifest as manifests
from cwpo.store.manifest import MANIFEST, StoreError, damaged, file_digests, read_manifest, sha256, write_manifest

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "pandas", "peft")
KEY = re.compile("[0-9a-f]{16}")  # what stage_key returns
CODE = (":/cwpo", ":/conf", ":/scripts")  # git's paths from the top of the repository, in whatever folder git runs


def stage_key(stage: str, version: int, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Returns 16 hex digits: a hash of the stage's name and version, the config it reads and its parents' keys."""
    text = json.dumps([stage, version, config, parents], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """Folders of stages under `root`, each named by its key. Many processes may use it at once."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def scratch(self, stage: str, key: str) -> Path:
        """Returns the folder, which may not exist yet, where a stage keeps parts of its work until it is finished."""
        return self.root / ".scratch" / f"{stage}-{key}"

    def has(self, stage: str, key: str) -> bool:
        """Whether the stage is finished. Raises StoreError for a folder without its manifest."""
        folder = self.folder(stage, key)
        if (folder / MANIFEST).is_file():
            return True
        # Folder before manifest: a folder that appears during these checks is not taken for a damaged one.
        if os.path.lexists(folder) and not (folder / MANIFEST).is_file():
            raise damaged(folder, f"{folder / MANIFEST} is missing, or is not a file")
        return False

    def manifest(self, stage: str, key: str) -> dict[str, Any]:
        """Returns the manifest of a finished stage. Raises StoreError if it or a file is damaged (see check_files)."""
        manifest = self.recorded(stage, key)
        manifests.check_files(self.folder(stage, key), manifest)
        return manifest

    def recorded(self, stage: str, key: str) -> dict[str, Any]:
        """Returns a finished stage's manifest; checks no other file. Raises StoreError if the manifest is damaged."""
        folder = self.folder(stage, key)
        manifest = read_manifest(folder)
        if (manifest["stage"], manifest["key"]) != (stage, key):
            of = f"{manifest['stage']}/{manifest['key']}"
            raise damaged(folder, f"{folder / MANIFEST} is damaged: it is the manifest of another stage, {of}")
        return manifest

    def finished(self) -> Iterator[tuple[str, str]]:
        """Yields (stage, key) of each stage folder, also of damaged ones; skips folders that the store did not make."""
        for path in sorted(self.root.glob("[!.]*/[!.]*")):
            if KEY.fullmatch(path.name) or (path / MANIFEST).is_file():
                yield path.parent.name, path.name

    def damage(self, stage: str, key: str) -> list[str]:
        """Returns a line for each file that is missing, differs from the manifest or is not in it. Reads every byte."""
        folder = self.folder(stage, key)
        try:
            files = manifests.damaged_files(folder, self.recorded(stage, key), hashed=float("inf"))
        except StoreError as error:
            return [str(error).partition("; delete ")[0]]
        return [f"{folder / name} is damaged: {what}" for name, what in files.items()]

    def damaged(self) -> dict[tuple[str, str], list[str]]:
        """Returns {(stage, key): messages} of all damaged stages; each message says what is wrong with one file."""
        return {place: lines for place in self.finished() if (lines := self.damage(*place))}

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
        """Computes a stage unless it is finished. Returns whether this call ran `work`.

        `work(folder)` writes the stage's files to `folder` and returns a summary for the manifest. Only one process
        works on a key; others wait, then find the stage finished. A killed run leaves nothing that looks finished.
        """
        if self.has(stage, key):
            return False
        given = {"stage": stage, "key": key, "version": version, "config": config}
        given |= {"parents": parents, "seed": seed}
        with self._lock(stage, key):
            if self.has(stage, key):
                return False
            partial, folder = self.partial(stage, key), self.folder(stage, key)
            remove(partial)
            partial.mkdir(parents=True)
            try:
                started = time.perf_counter()
                summary = work(partial)
                manifest = given | {
                    "summary": dict(summary),
                    "seconds": round(time.perf_counter() - started, 3),
                    "peak_memory_mb": round(peak_memory_mb(), 1),
                    "host": platform.node(),
                    "git_commit": git_commit(),
                    "packages": package_versions(),
                    "files": file_digests(partial),
                }
                write_manifest(partial, manifest)
                let_others_read(partial)
                for path in [*partial.rglob("*"), partial]:
                    sync(path)
                folder.parent.mkdir(parents=True, exist_ok=True)
                os.rename(partial, folder)
                sync(folder.parent)
                shutil.rmtree(self.scratch(stage, key), ignore_errors=True)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return True

    def drop(self, stage: str, key: str) -> None:
        """Removes a stage's folder, finished or damaged, so that it is computed again when it is needed."""
        with self._lock(stage, key):
            partial = self.partial(stage, key)
            remove(partial)
            partial.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.folder(stage, key), partial)  # atomic: a kill leaves no damaged stage
            remove(partial)

    def clean(self) -> None:
        """Removes what killed processes left: unfinished folders in .partial, and parts in .scratch of finished stages.

        Parts of unfinished stages stay, since a later run goes on from them; so do folders of live processes.
        """
        for path in [*entries(self.root / ".partial"), *entries(self.root / ".scratch")]:
            stage, _, key = path.name.rpartition("-")
            if path.parent.name == ".scratch" and not (self.folder(stage, key) / MANIFEST).is_file():
                continue
            with suppress(Timeout, OSError), self._lock(stage, key, timeout=0):
                remove(path)

    def held(self) -> list[str]:
        """Returns "<stage>-<key>" of each stage that a live process is computing."""
        names = []
        for lock in entries(self.root / ".locks"):
            try:
                with FileLock(lock, timeout=0):
                    pass
            except Timeout:
                names.append(lock.stem)
        return names

    def forget_locks(self) -> None:
        """Deletes lock files that no process holds. A process that was about to lock a deleted file makes a new one."""
        for lock in entries(self.root / ".locks"):
            with suppress(Timeout), FileLock(lock, timeout=0):
                lock.unlink(missing_ok=True)

    def partial(self, stage: str, key: str) -> Path:
        """Returns the folder in which the stage is written until it is complete."""
        return self.root / ".partial" / f"{stage}-{key}"

    @contextmanager
    def _lock(self, stage: str, key: str, timeout: float = -1) -> Iterator[None]:
        """Holds a key's lock in the block. Raises filelock's Timeout after `timeout` seconds (-1: waits for ever)."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{stage}-{key}.lock", timeout=timeout):
            yield


def entries(folder: Path) -> list[Path]:
    """Returns the sorted content of a folder, or an empty list if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def remove(path: Path) -> None:
    """Deletes a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fingerprint(path: str | Path) -> str:
    """Returns a digest, 16 hex digits, of a file's bytes, or of the names and bytes of all files in a folder.

    Links count as what they lead to. Hidden files and folders do not count: git and `hf download` often change theirs.
    """
    path = Path(path).expanduser()
    return _fingerprint(path, stamps(path))


def stamps(path: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Returns (path, bytes, time of change in ns) of each file that `fingerprint` reads; () if `path` is missing."""
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in _files(Path(path).expanduser()))


@cache
def _fingerprint(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    files = [(f.name if path.is_file() else str(f.relative_to(path)), sha256(f)) for f in _files(path)]
    return hashlib.sha256(json.dumps(files if path.is_dir() else files[0][1]).encode()).hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files: list[Path] = []
    for at, folders, names in os.walk(path, followlinks=True):
        here = Path(at)
        above = {place.resolve() for place in (here, *here.parents)} | {*here.resolve().parents}
        # a link to one of these folders would lead round in circles
        folders[:] = [f for f in folders if f[0] != "." and (here / f).resolve() not in above]
        files += [here / name for name in names if name[0] != "."]
    return sorted(file for file in files if file.is_file())


@cache
def git_commit() -> str:
    """Returns the code's commit, 12 hex digits, then "+" if files in CODE differ from it; "" outside a repository."""
    return commit_of(Path(__file__).parent)


def commit_of(folder: Path) -> str:
    """Returns the commit, as git_commit does, of the repository that tracks the files of `folder`; "" if none does."""

    def git(*args: str) -> str:
        for _ in range(3):
            done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode >= 0:
                break  # below 0 a signal killed git, which says nothing about the code
        done.check_returncode()
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", ".")  # fails in a repository that does not track these files
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def package_versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed
