"""Text files, plain or .gz, read within limits, so that a small file cannot expand into all of the memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from cwpo.errors import InputError

LINE = 2**26  # characters of a line, or of one element of a JSON array
EXPANDED = 2**28  # characters that any .gz file may expand to; beyond them, at most RATIO times its bytes
RATIO = 100  # text seldom shrinks to less than a twentieth
UNREADABLE = (UnicodeError, gzip.BadGzipFile, zlib.error, EOFError)
NAMES = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}


class Text:
    """A text file within the limits above. The encoding is one of NAMES; -sig skips the byte order mark of some editors."""

    def __init__(self, file: Path, encoding: str = "utf-8-sig") -> None:
        self.file, self.encoding, self.read = file, encoding, 0
        packed = file.suffix == ".gz"
        self.allowed = expands_to(file) if packed else None
        opener: Callable[..., IO[str]] = gzip.open if packed else open  # type: ignore[assignment]
        self.stream = opener(file, "rt", encoding=encoding, newline="")

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, line with its end) of every line."""
        number = 0
        while line := self._take(self.stream.readline, LINE + 1):
            number += 1
            if len(line) > LINE:
                raise InputError(
                    f"{self.file} line {number} has more than {LINE:,} characters; a line holds one pair"
                )
            yield number, line

    def chunk(self, size: int) -> str:
        """The next `size` characters, fewer at the end."""
        return self._take(self.stream.read, size)

    def _take(self, read: Callable[[int], str], size: int) -> str:
        try:
            text = read(size)
        except UNREADABLE as error:
            raise InputError(f"{self.file} cannot be read as {NAMES[self.encoding]} text: {error}") from error
        self.read += len(text)
        if self.allowed is not None and self.read > self.allowed:
            raise too_large(self.file, self.allowed)
        return text

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def unpack(file: Path, out: IO[bytes]) -> None:
    """Write what a .gz file expands to, within the same limits."""
    allowed, written = expands_to(file), 0
    with gzip.open(file) as packed:
        while block := packed.read(2**20):
            written += len(block)
            if written > allowed:
                raise too_large(file, allowed)
            out.write(block)


def expands_to(file: Path) -> int:
    """The most characters that a .gz file may expand to."""
    return max(EXPANDED, RATIO * file.stat().st_size)


def too_large(file: Path, allowed: int) -> InputError:
    return InputError(
        f"{file} expands to more than {allowed:,} characters, {RATIO} times its size, as no text does; if it is meant to, "
        "unpack it yourself (gunzip) and name the plain file"
    )
