"""Lines of JSON, plain or .gz, within limits: a small file cannot expand into all of the memory."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cwpo.errors import InputError

LINE = 2**26  # characters of a line
EXPANDED = 2**28  # characters that any .gz file may expand to; beyond them, at most RATIO times its bytes
RATIO = 100  # text seldom shrinks to less than a twentieth


def json_lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, object) of every line that is not blank; InputError names the first line that is no object."""
    for number, line in text_lines(file):
        if line.strip():
            yield number, _record(file, number, line)


def text_lines(file: Path, newline: str | None = None) -> Iterator[tuple[int, str]]:
    """(number, line) of a UTF-8 file. InputError for other bytes, a broken .gz, and for sizes beyond the limits above.

    Lines end as with `open`: with newline="" in what the file has there, else in \\n.
    """
    packed = file.suffix == ".gz"
    allowed = expands_to(file) if packed else None
    opener = gzip.open if packed else open
    read = number = 0
    # -sig: some editors put a byte order mark first
    with opener(file, "rt", encoding="utf-8-sig", newline=newline) as stream:
        try:
            while line := stream.readline(LINE + 1):
                number, read = number + 1, read + len(line)
                if len(line) > LINE:
                    raise InputError(
                        f"{file} line {number} has more than {LINE:,} characters; a line holds one pair"
                    )
                if allowed is not None and read > allowed:
                    raise too_large(file, allowed)
                yield number, line
        except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(f"{file} cannot be read as UTF-8 text: {error}") from error


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
    """The most that a .gz file may expand to."""
    return max(EXPANDED, RATIO * file.stat().st_size)


def too_large(file: Path, allowed: int) -> InputError:
    return InputError(
        f"{file} expands to more than {allowed:,} characters, {RATIO} times its size, as no text does; if it is meant to, "
        "unpack it yourself (gunzip) and name the plain file"
    )


def _record(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{file} line {number} is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{file} line {number} is nested too deeply; a pair is one flat object") from error
    except ValueError as error:  # whole numbers of thousands of digits
        raise InputError(f"{file} line {number} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise InputError(
            f"{file} line {number} is a JSON {type(record).__name__}; one object a line is needed"
        )
    return record
