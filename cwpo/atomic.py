"""Files that appear complete or not at all, whatever kills the process or fills the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path, writer: str = "") -> Iterator[Path]:
    """A path beside `path` to write to. At the end it is flushed to the disk and takes the place of `path`.

    After an error nothing is left of it, and an OSError without a file name names `path`. Its own name is always the same,
    so that the next writer overwrites the remains of a killed one. Processes that write one `path` at the same time each
    need a `writer` of their own.
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


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
