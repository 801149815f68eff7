"""Writes files atomically: a file appears complete or not at all, even if the process is killed or the disk is full."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_file(path: Path, writer: str = "") -> Iterator[Path]:
    """Yields a temporary path, in the folder of `path`, to write to. After the block that file replaces `path`.

    It is flushed to disk first. If the block raises, the temporary file is removed, and an OSError that names no file
    is raised again with the name `path`. The temporary name depends on `path` and `writer` alone, so a later process
    overwrites what a killed one left. Processes that may write the same `path` at once must each pass another `writer`.
    """
    partial = path.with_name(f".{path.name}{writer}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def let_others_read(folder: Path) -> None:
    """Gives each file under `folder` the read and write permissions of its folder, which the umask has set.

    safetensors 0.8 saves weights that only the owner of the file can read, whatever the umask.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(PermissionError):  # some disks have no permissions
                path.chmod(path.parent.stat().st_mode & 0o666)


def sync(path: Path) -> None:
    """Flushes a file's contents, or the list of a folder's files, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
