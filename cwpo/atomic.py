"""Writes files atomically: a file appears complete or not at all, even if the process is killed or the disk is full."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_file(path: Path, writer: str = "") -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to. On success that file is flushed to disk and replaces `path`.

    After an error the temporary file is removed; an OSError that names no file is raised again with the name `path`.
    The temporary name is always the same, so the next writer overwrites the remains of a killed one. `writer` is added
    to that name: processes that write the same `path` at once must each pass a different one.
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
    """Gives the files in `folder` the permissions that their folders have from the umask.

    safetensors 0.8 saves weights that their owner alone can read, whatever the umask.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(PermissionError):  # of disks that have no permissions of their own
                path.chmod(path.parent.stat().st_mode & 0o666)


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
