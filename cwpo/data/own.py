"""A user's own pairs: any table, with one label, a list of votes, or none for each pair; problems counted by row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cwpo.data.sources import pair_id
from cwpo.errors import InputError

COLUMNS = ("prompt", "response_a", "response_b")
KNOWN = (*COLUMNS, "chosen", "rejected", "label", "votes", "domain")
SIDES = {"a": 1.0, "b": 0.0, "tie": 0.5, "response_a": 1.0, "response_b": 0.0, "0": 1.0, "1": 0.0}
CHUNK = 10_000  # rows in memory at a time
SHOWN = 5  # row numbers named for each kind of problem
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


@dataclass
class Converted:
    """How a table was read: rows, pairs kept, pairs with a label, and for each drop reason the rows, counted from 1."""

    read: int = 0
    kept: int = 0
    labeled: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)


SCHEMA = pa.schema(
    [("pair_id", pa.string()), ("row", pa.int64())]
    + [(name, pa.string()) for name in (*COLUMNS, "domain")]
    + [("target", pa.float64()), ("n_votes", pa.int64())]
)


def convert(
    path: str,
    out: Path,
    columns: Mapping[str, str] | None = None,
    *,
    ties: str = "drop",
    split: str | None = None,
) -> Converted:
    """Write the pairs of any table to parquet `out`: pair_id, row, prompt, response_a, response_b, domain, target, n_votes.

    The table is a JSONL, CSV, TSV or Parquet file (plain or .gz), a `datasets` folder, or a hub id; it is read as a stream.
    `columns` maps our names (prompt, response_a, response_b, or chosen, rejected; label, votes, domain) to the table's. A label is
    "a", "b" or "tie", or a 0 or 1 that counts responses; votes are a list of labels; target is the share of them for a, NaN
    without any. Texts may be lists of chat messages, whose contents are joined. `ties`: "drop" leaves labelled pairs without a
    majority out, "soft" keeps them with their vote share as target. Raises InputError for an unreadable table, missing columns,
    or values of a wrong kind, with the rows; nothing is left at `out` then.
    """
    names = dict(columns or {})
    problems = [
        f"columns.{name} is unknown; valid: {', '.join(KNOWN)}" for name in sorted(set(names) - set(KNOWN))
    ]
    if ties not in ("drop", "soft"):
        problems.append(f"ties={ties} is unknown; valid: drop, soft")
    if problems:
        raise InputError(problems)
    done, wrong = Converted(), {}
    try:
        with pq.ParquetWriter(out, SCHEMA) as writer:
            rows: list[dict[str, Any]] = []
            for row in _usable(path, names, ties, split, done, wrong):
                rows.append(row)
                if len(rows) == CHUNK:
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        if wrong:
            raise InputError(
                [
                    f"{path}: {len(found)} rows {problem}: row {_few(found)}"
                    for problem, found in wrong.items()
                ]
            )
        if not done.read:
            raise InputError(f"{path} holds no rows")
        if not done.kept:
            counts = ", ".join(f"{reason} {len(found)}" for reason, found in done.dropped.items())
            raise InputError(f"{path}: none of {done.read} rows can be used ({counts})")
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return done


def _usable(
    path: str,
    names: Mapping[str, str],
    ties: str,
    split: str | None,
    done: Converted,
    wrong: dict[str, list[int]],
) -> Iterator[dict[str, Any]]:
    """Rows of SCHEMA; what is left out, or wrong, is noted by the way."""
    seen: set[str] = set()
    for number, record in _records(path, split):
        done.read += 1
        if number == 1:
            _check_columns(path, record, names)
        pair, reason, problem = _pair(record, names, ties)
        if problem:
            wrong.setdefault(problem, []).append(number)
            continue
        if pair is not None and not reason:
            pair["pair_id"] = pair_id(pair["prompt"], pair["response_a"], pair["response_b"])
            reason = "repeated" if pair["pair_id"] in seen else ""
            seen.add(pair["pair_id"])
        if pair is None or reason:
            done.dropped.setdefault(reason, []).append(number)
            continue
        done.kept += 1
        done.labeled += pair["n_votes"] > 0
        yield {"row": number, **pair}


def read_column(path: str, column: str, split: str | None = None) -> list[str]:
    """The texts in one column of a table, in order; raises InputError where it is missing or holds something else."""
    texts = []
    for number, record in _records(path, split):
        if column not in record:
            raise InputError(f"{path} row {number} lacks the column {column}; it has {', '.join(record)}")
        text = _text(record[column])
        if text is None:
            raise InputError(
                f"{path} row {number}: {column} is neither text nor a list of messages with role and content"
            )
        texts.append(text)
    return texts


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:SHOWN])) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def _check_columns(path: str, record: Mapping[str, Any], names: Mapping[str, str]) -> None:
    absent = [f"{theirs} (columns.{ours})" for ours, theirs in names.items() if theirs not in record]
    have = {ours for ours in KNOWN if names.get(ours, ours) in record}
    if absent:
        raise InputError(f"{path} lacks the column {', '.join(absent)}; it has {', '.join(record)}")
    if "prompt" not in have or not ({"response_a", "response_b"} <= have or {"chosen", "rejected"} <= have):
        raise InputError(
            f"{path} needs the columns prompt, response_a, response_b, or prompt, chosen, rejected; it has {', '.join(record)}. "
            "Name yours with +columns.prompt=... and so on"
        )


def _pair(
    record: Mapping[str, Any], names: Mapping[str, str], ties: str
) -> tuple[dict[str, Any] | None, str, str]:
    """The pair, why it is left out, and what is wrong with it."""
    get = {ours: record.get(names.get(ours, ours)) for ours in KNOWN}
    ordered = get["response_a"] is None and get["chosen"] is not None
    sides = ("chosen", "rejected") if ordered else ("response_a", "response_b")
    texts = {}
    for ours, name in zip(COLUMNS, ("prompt", *sides), strict=True):
        if _missing(get[name]):
            return None, f"missing_{name}", ""
        text = _text(get[name])
        if text is None:
            return (
                None,
                "",
                f"have a {name} that is neither text nor a list of messages with role and content",
            )
        texts[ours] = text
    target, votes, problem = (1.0, 1, "") if ordered else _target(get["label"], get["votes"])
    if problem:
        return None, "", problem
    if not texts["response_a"].strip() or not texts["response_b"].strip():
        return None, "empty_response", ""
    if texts["response_a"] == texts["response_b"]:
        return None, "identical_responses", ""
    if ordered:  # the side of the better one must not tell which it is
        swap = int(pair_id(texts["prompt"], texts["response_a"], texts["response_b"]), 16) % 2
        if swap:
            texts["response_a"], texts["response_b"], target = texts["response_b"], texts["response_a"], 0.0
    pair = {**texts, "domain": str(get["domain"] or ""), "target": target, "n_votes": votes}
    return pair, "tie" if target == 0.5 and ties == "drop" else "", ""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _text(value: Any) -> str | None:
    """Plain text; of a list of chat messages their contents, one to a line; None for anything else or for half characters."""
    if isinstance(value, str):
        text = value
    else:
        messages = list(value) if isinstance(value, (list, tuple, np.ndarray)) else []
        if not messages or not all(
            isinstance(m, Mapping) and isinstance(m.get("content"), str) for m in messages
        ):
            return None
        text = "\n".join(m["content"] for m in messages)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _target(label: Any, votes: Any) -> tuple[float, int, str]:
    """(share of votes for a or NaN, number of votes, what is wrong)."""
    given = votes if isinstance(votes, (list, tuple, np.ndarray)) else None
    if given is None and isinstance(votes, str) and votes.strip():
        given = [vote for vote in votes.replace("|", ",").split(",") if vote.strip()]
    if given is not None and len(given):
        shares = [_side(vote) for vote in given]
        if any(s is None for s in shares):
            return np.nan, 0, 'have votes other than "a", "b" or "tie"'
        return float(np.mean([s for s in shares if s is not None])), len(shares), ""
    if _missing(label) or (isinstance(label, str) and not label.strip()):
        return np.nan, 0, ""
    side = _side(label)
    if side is None:
        return np.nan, 0, 'have a label other than "a", "b", "tie", 0 or 1'
    return side, 1, ""


def _side(label: Any) -> float | None:
    if isinstance(label, (bool, np.bool_)):
        return None
    if isinstance(label, (int, float, np.integer, np.floating)):
        return SIDES.get(str(int(label))) if label in (0, 1) else None
    return SIDES.get(str(label).strip().lower()) if isinstance(label, str) else None


def _records(path: str, split: str | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    file = Path(path).expanduser()
    if file.is_file():
        kind = next((s for s in reversed(file.suffixes) if s != ".gz"), "")
        if kind not in SUFFIXES:
            raise InputError(f"{path}: a table ends in {', '.join(SUFFIXES)}, or one of them and .gz")
        yield from enumerate(_file_records(file, kind), start=1)
        return
    yield from enumerate(_datasets_records(path, file.is_dir(), split), start=1)


def _file_records(file: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    try:
        if kind == ".parquet":
            with (
                pa.OSFile(str(file)) if file.suffix != ".gz" else gzip.open(file) as source,
                pq.ParquetFile(source) as table,
            ):
                for batch in table.iter_batches(CHUNK):
                    yield from batch.to_pylist()
        elif kind in (".csv", ".tsv"):
            chunks = pd.read_csv(
                file, sep="\t" if kind == ".tsv" else ",", dtype=str, keep_default_na=False, chunksize=CHUNK
            )
            for chunk in chunks:
                yield from (
                    {k: v if v != "" else None for k, v in row.items()} for row in chunk.to_dict("records")
                )
        else:
            with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield _json_row(file, number, line)
    except InputError:
        raise
    except Exception as error:  # parsers raise many kinds; each means the file is not what its name says
        raise InputError(f"{file} cannot be read as {kind[1:]}: {str(error).splitlines()[0]}") from error


def _json_row(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{file} line {number} is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(record, dict):
        raise InputError(
            f"{file} line {number} is a JSON {type(record).__name__}; one object a line is needed"
        )
    return record


def _datasets_records(path: str, local: bool, split: str | None) -> Iterator[Mapping[str, Any]]:
    import datasets

    try:
        found = datasets.load_from_disk(path) if local else datasets.load_dataset(path)
    except Exception as error:  # the hub client raises many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"data={path} is neither a file, a datasets folder, nor a hub data set at hand: {reason}"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if split is None and len(found) > 1:
            raise InputError(f"data={path} has the splits {', '.join(found)}; choose with split=")
        if split is not None and split not in found:
            raise InputError(f"data={path} has no split {split}; it has {', '.join(found)}")
        found = found[split or next(iter(found))]
    yield from found
