"""Converts any table of a user's pairs to one Parquet file. A pair may have a label, a list of votes, or neither."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cwpo.data.files import records
from cwpo.data.rows import Converted, Pair, PairReader
from cwpo.data.sources import pair_id
from cwpo.errors import InputError

CHUNK = 2_000  # pairs in memory at a time
SCHEMA = pa.schema(
    [("pair_id", pa.string()), ("row", pa.int64())]
    + [(name, pa.string()) for name in ("prompt", "response_a", "response_b", "domain")]
    + [("target", pa.float64()), ("share", pa.float64()), ("n_votes", pa.int64())]
    + [("messages", pa.string())]  # JSON: the prompt's messages, null where the row is plain text
)


def convert(
    path: str,
    out: Path,
    columns: Mapping[str, str] | None = None,
    *,
    ties: str = "drop",
    split: str | None = None,
    positive: str | None = None,
) -> Converted:
    """Writes the pairs of a table to the Parquet file `out` with the columns of SCHEMA. Returns how the table was read.

    columns: our name -> the table's name. positive: the response, "a" or "b", that a label of 1 or true prefers. split:
    as in records. vote_share says which labels, and pair_texts which texts, are understood.
    In the file, `share` is the share of votes for response `a`, where a tie counts half. `target` is what an annotator
    learns. With ties="soft", it is the share. With ties="drop", it is 1 if most votes are for `a`, else 0, and pairs
    without a majority are left out. Without votes, both are null. Of repeated pairs, only the first is kept.
    Raises InputError, which names the rows, for an unreadable table, missing columns or values of a wrong kind. It then
    leaves no file at `out`.
    """
    if ties not in ("drop", "soft"):
        raise InputError(f"ties={ties} is unknown; valid: drop, soft")
    reader = PairReader(path, columns, positive)
    done = reader.done
    try:
        with pq.ParquetWriter(out, SCHEMA) as writer:
            rows = _usable(reader, split, ties)
            while chunk := list(islice(rows, CHUNK)):
                writer.write_table(pa.Table.from_pylist(chunk, SCHEMA))
        if not done.read:
            raise InputError(f"{path} holds no rows")
        if not done.kept:
            raise InputError(f"{path}: none of {done.read} rows can be used ({done.drops()})")
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return done


def _usable(reader: PairReader, split: str | None, ties: str) -> Iterator[dict[str, Any]]:
    """Yields rows of SCHEMA. Drops, and counts, repeated pairs and, with ties="drop", pairs without a majority.

    A repeated pair whose label is lost, because the first such pair has none or another, is counted apart.
    """
    seen: dict[int, float | None] = {}  # digest of a pair -> label of the response that sorts first, 1 if preferred
    done = reader.done
    for number, pair, _, _ in reader.read(records(reader.path, split)):
        if pair is None:
            continue
        row = _row(pair, ties)
        digest, label = int(row["pair_id"], 16), row["target"]
        if label is not None:
            label = round(label if row["response_a"] < row["response_b"] else 1 - label, 9)
        if pair.share == 0.5 and ties == "drop":
            done.drop("no_majority", number)
        elif digest in seen:
            done.drop("repeated" if label in (None, seen[digest]) else "repeated_with_another_label", number)
        else:
            seen[digest] = label
            done.kept += 1
            done.labeled += pair.n_votes > 0
            yield {"row": number, **row}


def _row(pair: Pair, ties: str) -> dict[str, Any]:
    name = pair_id(*pair.texts[:3])
    if pair.ordered and int(name, 16) % 2:  # else response_a would always be the chosen one
        pair = pair.turned()
    share = pair.share if pair.n_votes else None
    target = share if share is None or ties == "soft" else float(share > 0.5)
    texts = zip(("prompt", "response_a", "response_b", "messages"), pair.texts, strict=True)
    votes = {"target": target, "share": share, "n_votes": pair.n_votes}
    return {"pair_id": name, **dict(texts), **votes, "domain": pair.domain}
