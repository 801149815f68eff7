"""Rows of any table, one at a time: JSON lines, CSV, TSV or Parquet, plain or .gz, a `datasets` folder, or a hub id."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cwpo.data.lines import text_lines, unpack
from cwpo.errors import InputError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
BATCH = 1_000  # rows of a Parquet file in memory at a time
LONGEST_FIELD = 2**30  # characters; the csv module would refuse texts above 2**17


def records(path: str, split: str | None = None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number, row) of every row. JSON lines are numbered as lines, other rows from 1, the header left out.

    `split` chooses among those of a `datasets` folder or hub id. Raises InputError for a table that cannot be read, with the
    row where there is one.
    """
    file = Path(path).expanduser()
    kind = next((s for s in reversed(file.suffixes) if s != ".gz"), "")
    if file.is_file():
        if kind not in SUFFIXES:
            raise InputError(f"{path}: a table ends in {', '.join(SUFFIXES)}, or one of them and .gz")
        return _file_rows(file, kind)
    if not file.is_dir() and (kind in SUFFIXES or path.startswith((".", "/", "~"))):
        raise InputError(f"{path} does not exist")
    return enumerate(_datasets_rows(path, file, split), start=1)


def read_column(path: str, column: str, split: str | None = None) -> Iterator[str]:
    """The texts in one column of a table, in order; raises InputError where it is missing or holds something else."""
    for number, record in records(path, split):
        if column not in record:
            raise InputError(f"{path} row {number} lacks the column {column}; it has {', '.join(record)}")
        if not isinstance(record[column], str):
            raise InputError(f"{path} row {number}: {column} is {type(record[column]).__name__}, not text")
        yield record[column]


def _file_rows(file: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows}.get(kind, _json_rows)
    try:
        yield from rows(file, kind)
    except InputError:
        raise
    except Exception as error:  # parsers raise many kinds; each means the file is not what its name says
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file} cannot be read as {kind[1:]}: {reason}") from error


def _json_rows(file: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in text_lines(file, newline=""):
        if line.strip():
            yield number, _json_row(file, number, line)


def _json_row(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        whole = number == 1 and line.lstrip()[:1] in ("[", "{") and error.pos >= len(line.rstrip())
        advice = f"; one object a line is needed (jq -c '.[]' {file.name} writes them)" if whole else ""
        raise InputError(
            f"{file} line {number} is not JSON: {error.msg} at column {error.colno}{advice}"
        ) from error
    if not isinstance(record, dict):
        raise InputError(
            f"{file} line {number} is a JSON {type(record).__name__}; one object a line is needed"
        )
    return record


def _csv_rows(file: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows whose fields are text, None where empty."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = (line for _, line in text_lines(file, newline=""))
    reader = csv.DictReader(lines, delimiter="\t" if kind == ".tsv" else ",", strict=True)
    for number, row in enumerate(reader, start=1):
        if None in row:
            raise InputError(
                f"{file} row {number} (it ends in line {reader.line_num}) has {len(row[None])} fields more than the header"
            )
        yield number, {name: value or None for name, value in row.items()}


def _parquet_rows(file: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with tempfile.TemporaryFile() as unpacked:
        if (
            file.suffix == ".gz"
        ):  # Parquet is read from its end; unpacking in passing would start again each time
            unpack(file, unpacked)
        number = 0
        with pq.ParquetFile(unpacked if file.suffix == ".gz" else file) as table:
            for batch in table.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


def _datasets_rows(path: str, folder: Path, split: str | None) -> Iterator[Mapping[str, Any]]:
    import datasets

    saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(path)
    except Exception as error:  # the hub client raises many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is neither a file, a datasets folder, nor a data set that the hub or its cache can give: {reason}"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if split is None and len(found) > 1:
            raise InputError(f"{path} has the splits {', '.join(found)}; choose with split=")
        if split is not None and split not in found:
            raise InputError(f"{path} has no split {split}; it has {', '.join(found)}")
        found = found[split or next(iter(found))]
    yield from found
