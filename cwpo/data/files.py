"""Reads the rows of any table, one at a time and within limits, so that a small file cannot fill the memory.

It reads JSON lines, one JSON array, CSV, TSV and Parquet, plain or .gz; a folder that `datasets` saved; a hub data set.
"""

import csv
import gzip
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from cwpo.config.hub import reach
from cwpo.errors import InputError, first_line

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
LINE = 2**26  # most characters of a line, or of one element of a JSON array
EXPANDED = 2**28  # a .gz file may expand to this many bytes, or to RATIO times its size if that is more
RATIO = 100  # text seldom shrinks to less than a twentieth
JSON_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
CHUNK = 2**16  # characters of a JSON array read at a time
BATCH = 1_000  # rows of a Parquet file in memory at a time
LONGEST_FIELD = 2**30  # characters; by default the csv module refuses texts above 2**17
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # the byte order marks of Excel's "Unicode text"
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # bytes that do not occur in text


def records(
    path: str, split: str | None = None, *, folder: str | None = None, revision: str | None = None, key: str = "split"
) -> Iterator[tuple[int, Row]]:
    """Returns an iterator over (number, row) of a file, a folder that `datasets` saved, or a hub data set.

    number: the line number in a JSON lines file; in other tables the row number, from 1, without the header.
    split: which split of a `datasets` folder or hub data set is read; None if there is only one. "train+test" reads
    both, or the one that exists. folder, revision: the folder and commit of a hub data set. key: the name of the
    setting that holds `split`, for messages. The numbers of a ClassLabel column become class names.
    Raises InputError for an unreadable table, and names the row if one is at fault.
    """
    file = Path(path).expanduser()
    kind = next((s for s in reversed(file.suffixes) if s != ".gz"), "")
    if file.is_file():
        if kind not in SUFFIXES:
            raise InputError(f"{path}: a table's name must end in {', '.join(SUFFIXES)}, or in one of these and .gz")
        return _file_rows(file, kind)
    if not file.is_dir() and (kind in SUFFIXES or path.startswith((".", "/", "~"))):
        raise InputError(f"{path} does not exist")
    return enumerate(_datasets_rows(path, split, folder, revision, key), start=1)


def _file_rows(file: Path, kind: str) -> Iterator[tuple[int, Row]]:
    rows = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows}.get(kind, _json_rows)
    try:
        yield from rows(file, kind)
    except (InputError, MemoryError):
        raise
    except UnicodeError as error:
        raise InputError(f"{file} cannot be read as UTF-8 text: {error}; save it as UTF-8") from error
    except Exception as error:  # parsers raise many kinds; each means the file is not what its name says
        raise InputError(f"{file} cannot be read as {kind[1:]}: {first_line(error)}") from error


class Unpacked(gzip.GzipFile):
    """Unpacks a .gz file. Raises InputError if the content exceeds EXPANDED bytes and RATIO times the file's size."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.allowed = max(EXPANDED, RATIO * file.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        return self._within(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._within(super().read1(size))

    def _within(self, block: bytes) -> bytes:
        if self.tell() > self.allowed:
            raise InputError(
                f"{self.name} expands to more than {self.allowed:,} bytes and {RATIO} times its size, as no text "
                "does; if it is meant to, unpack it yourself (gunzip) and name the plain file"
            )
        return block


def open_bytes(file: Path) -> IO[bytes]:
    return Unpacked(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def open_text(file: Path, encoding: str = "utf-8-sig") -> io.TextIOWrapper:
    """Opens a plain or .gz file as text. "utf-8-sig" is UTF-8 without the byte order mark that some editors write."""
    return io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="")


def lines(text: io.TextIOWrapper, file: Path) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, line with its line end). Raises InputError for a line of more than LINE characters."""
    for number, line in enumerate(iter(lambda: text.readline(LINE + 1), ""), start=1):
        if len(line) > LINE:
            raise InputError(
                f"{file} line {number} has more than {LINE:,} characters; write one pair per line, or shorten the line"
            )
        yield number, line


# --- JSON ---------------------------------------------------------------------------------------------------------


def _json_rows(file: Path, kind: str) -> Iterator[tuple[int, Row]]:
    with open_text(file) as text:
        start = _past_blanks(text, "")
        if start.startswith("["):
            yield from _json_array(text, file, start[1:])
        else:
            text.seek(0)
            yield from _json_lines(text, file)


def _past_blanks(text: io.TextIOWrapper, rest: str) -> str:
    """Returns `rest` without leading white space. Reads on in `text` if nothing is left; returns "" at its end."""
    while not (rest := rest.lstrip()) and (rest := text.read(CHUNK)):
        pass
    return rest


def _json_lines(text: io.TextIOWrapper, file: Path) -> Iterator[tuple[int, Row]]:
    for number, line in lines(text, file):
        if line.strip():
            place = f"{file} line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                unfinished = number == 1 and getattr(error, "pos", 0) >= len(line.rstrip())
                advice = "; one object a line, or one array of objects is needed" if unfinished else ""
                raise _not_json(place, error, advice) from error
            yield number, _object(value, place, "; one object a line is needed")


def _json_array(text: io.TextIOWrapper, file: Path, rest: str) -> Iterator[tuple[int, Row]]:
    """Yields (number from 1, object) of an array, one in memory at a time. `rest`: the text read after the "["."""
    decoder, number = json.JSONDecoder(), 0
    rest = _past_blanks(text, rest)
    while rest and not rest.startswith("]"):
        place = f"{file} element {number + 1}"
        if number and not rest.startswith(","):
            raise InputError(f"{place} does not follow a comma; put a comma between elements")
        rest = _past_blanks(text, rest[1:] if number else rest)
        value, rest = _element(decoder, text, rest, place)
        number += 1
        yield number, _object(value, place, "; an array of objects is needed")
        rest = _past_blanks(text, rest)
    if not rest:
        raise InputError(f"{file} ends inside its array, after {number} elements; it may be cut off: copy it again")
    if _past_blanks(text, rest[1:]):
        raise InputError(f"{file} goes on after its array of {number} elements; one array of objects is needed")


def _element(decoder: json.JSONDecoder, text: io.TextIOWrapper, rest: str, place: str) -> tuple[Any, str]:
    """Returns the value at the start of `rest`, and the text read after it. Reads on in `text` until it is complete."""
    while True:
        try:
            value, stop = decoder.raw_decode(rest)
            return value, rest[stop:]
        except (ValueError, RecursionError) as error:
            more = text.read(max(CHUNK, len(rest))) if isinstance(error, json.JSONDecodeError) else ""
            if not more:
                raise _not_json(place, error) from error
            if len(rest) > LINE:
                raise InputError(
                    f"{place} has more than {LINE:,} characters; close its quotes and brackets, or shorten it"
                ) from error
            rest += more


def _not_json(place: str, error: Exception, advice: str = "") -> InputError:
    if isinstance(error, json.JSONDecodeError):
        return InputError(f"{place} is not JSON: {error.msg} at column {error.colno}{advice}")
    if isinstance(error, RecursionError):
        return InputError(f"{place} is nested too deeply; a pair is one flat object")
    return InputError(f"{place} cannot be read: {error}")  # Python refuses integers of thousands of digits


def _object(value: Any, place: str, advice: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place} is {JSON_KINDS.get(type(value), 'null')}{advice}")
    return value


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv_rows(file: Path, kind: str) -> Iterator[tuple[int, Row]]:
    """Yields (number of the row from 1, row); a field is text, or None if it is empty."""
    csv.field_size_limit(LONGEST_FIELD)
    number = 0
    with open_text(file, _encoding(file)) as text:
        header = next((line for _, line in lines(text, file)), "")
        text.seek(0)
        read = (line for _, line in lines(text, file))
        reader: csv.DictReader[Any] = csv.DictReader(read, delimiter=_delimiter(header, kind), strict=True)
        try:
            _check_names(reader.fieldnames or [], file)
            for number, row in enumerate(reader, start=1):
                _check_fields(row, f"{file} row {number} (it ends in line {reader.line_num})")
                yield number, {name: value or None for name, value in row.items()}
        except csv.Error as error:
            raise InputError(
                f"{file} row {number + 1} (up to line {reader.reader.line_num}) cannot be read as {kind[1:]}: {error}; put a text with "
                'quotes or line breaks between quotes, and write each quote inside as ""'
            ) from error


def _check_names(names: Sequence[str], file: Path) -> None:
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"{file} has several columns with the name {', '.join(twice)}; give each one its own name")


def _check_fields(row: Mapping[Any, Any], place: str) -> None:
    if None in row:
        raise InputError(f"{place} has {len(row[None])} fields more than the header; put quotes around texts")


def _encoding(file: Path) -> str:
    """Returns UTF-16 if the file has its byte order mark, UTF-8 if it is valid UTF-8 or binary, else Windows-1252."""
    with open_bytes(file) as stream:
        start = stream.read(CHUNK)
    if start[:2] in UTF16:
        return "utf-16"
    try:
        with open_text(file) as text:
            while text.read(2**20):
                pass
    except UnicodeError:
        return "utf-8-sig" if CONTROL.search(start) else "cp1252"  # which Excel writes
    return "utf-8-sig"


def _delimiter(header: str, kind: str) -> str:
    if kind == ".tsv" and "\t" in header:
        return "\t"
    try:
        return csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter
    except csv.Error:  # a single column
        return ","


# --- Parquet and datasets -----------------------------------------------------------------------------------------


def _parquet_rows(file: Path, kind: str) -> Iterator[tuple[int, Row]]:
    with _unpacked(file) as source, pq.ParquetFile(source) as table:
        about = json.loads((table.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        named = _class_names(about.get("info", {}).get("features", {}))
        rows = chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(BATCH))
        for number, row in enumerate(rows, start=1):
            yield number, row | {name: _names(row[name], named[name]) for name in named}


@contextmanager
def _unpacked(file: Path) -> Iterator[Any]:
    """Yields the file or, if it is a .gz file, an unpacked temporary copy, in which a Parquet reader can seek."""
    if file.suffix != ".gz":
        yield file
        return
    with tempfile.TemporaryFile() as unpacked, open_bytes(file) as packed:
        shutil.copyfileobj(packed, unpacked)
        yield unpacked


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns {column: class names} of columns of ClassLabels, or of lists of them. features: datasets.Features."""
    kinds = {name: kind.get("feature") or kind for name, kind in features.items() if isinstance(kind, dict)}
    kinds = {name: kind for name, kind in kinds.items() if isinstance(kind, dict)}
    return {name: kind["names"] for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}


def _names(value: Any, names: list[str]) -> Any:
    """Returns the name of a class number, or of each in a list; None for -1 (missing); other values as they are."""
    if isinstance(value, list):
        return [_names(item, names) for item in value]
    if not isinstance(value, int) or not -1 <= value < len(names):
        return value
    return None if value == -1 else names[value]


def _datasets_rows(path: str, split: str | None, part: str | None, revision: str | None, key: str) -> Iterator[Row]:
    reach(path)
    import datasets

    folder = Path(path).expanduser()
    saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        loaded: Any = datasets.load_from_disk(str(folder)) if saved else None
        if loaded is None:
            loaded = datasets.load_dataset(path, data_dir=part, revision=revision)
    except Exception as error:  # the hub client raises many kinds
        what = "neither a file, a datasets folder, nor a data set that the hub or its cache can give"
        raise InputError(f"{path} is {what}: {first_line(error)}") from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {split or "train": loaded}
    if split is None and len(splits) > 1:
        raise InputError(f"{path} has the splits {', '.join(splits)}; choose with {key}=")
    wanted = list(splits) if split is None else re.split(r"\s*\+\s*", split)
    wanted = [name for name in wanted if name in splits] or wanted
    for name in wanted:
        if name not in splits:
            raise InputError(f"{path} has no split {name}; it has {', '.join(splits)}")
    for name in wanted:
        named = _class_names(splits[name].features.to_dict())
        for row in splits[name].with_format(None):  # a saved format would give tensors, or tables in place of rows
            yield row | {column: _names(row[column], named[column]) for column in named}
