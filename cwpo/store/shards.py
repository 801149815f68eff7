"""Computes a big table shard by shard: memory use stays small, and a kill loses only the shard being computed."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cwpo.store.manifest import sha256
from cwpo.store.store import remove

SHARD = 20_000  # rows of a shard by default
Work = Callable[[pd.DataFrame], pd.DataFrame]
Progress = Callable[[int, int], None]  # called with the rows done and the rows in all


def map_table(
    source: Path,
    target: Path,
    columns: list[str],
    work: Work,
    *,
    scratch: Path,
    progress: Progress = lambda done, total: None,
    rows: int | None = None,
) -> int:
    """Applies `work` to `columns` of the Parquet file `source`, writes results to `target`, returns their row count.

    `work` gets `rows` rows (default SHARD) at a time. Its finished results, shards, lie in `scratch`; after a kill, a
    call with the same folder goes on from them. A digest in a shard's name reveals whether the shard is damaged.
    """
    rows = rows or SHARD
    with pq.ParquetFile(source) as table:
        total = table.metadata.num_rows
        batches = table.iter_batches(rows, columns=columns)
        if total <= rows:
            part = work(next(batches).to_pandas() if total else table.read(columns).to_pandas())
            part.to_parquet(target, index=False)
            return len(part)
        shards = _shards((batch.to_pandas() for batch in batches), work, scratch, total, progress)
    # a shard without a value in some column does not know the column's type
    schema = pa.unify_schemas([pq.read_schema(shard) for shard in shards], promote_options="permissive")
    with pq.ParquetWriter(target, schema) as writer:
        for shard in shards:
            writer.write_table(pq.read_table(shard).cast(schema))
    return sum(pq.read_metadata(shard).num_rows for shard in shards)


def map_rows(
    frame: pd.DataFrame, work: Work, *, scratch: Path, rows: int, progress: Progress = lambda done, total: None
) -> pd.DataFrame:
    """Applies `work` to `rows` rows of `frame` at a time; joins the results. After a kill, goes on from `scratch`."""
    if len(frame) <= rows:
        return work(frame)
    parts = (frame.iloc[start : start + rows] for start in range(0, len(frame), rows))
    shards = _shards(parts, work, scratch, len(frame), progress)
    return pd.concat([pd.read_parquet(shard) for shard in shards], ignore_index=True)


def _shards(parts: Iterable[pd.DataFrame], work: Work, scratch: Path, total: int, progress: Progress) -> list[Path]:
    """Returns a file for each part, which holds work(part). Computes only those that are not finished in `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    shards, done = [], 0
    for number, part in enumerate(parts):
        shards.append(_intact(scratch, number) or _write(work(part), scratch, number))
        done += len(part)
        progress(done, total)
    return shards


def _intact(scratch: Path, number: int) -> Path | None:
    """Returns the file of finished shard `number`, or None if there is none. Deletes a damaged one."""
    for shard in scratch.glob(f"{number:06d}-*.parquet"):
        if shard.is_file() and shard.name == _name(shard, number):
            return shard
        remove(shard)
    return None


def _write(part: pd.DataFrame, scratch: Path, number: int) -> Path:
    written = scratch / f"{number:06d}.partial"
    remove(written)
    part.to_parquet(written, index=False)
    return written.rename(scratch / _name(written, number))


def _name(shard: Path, number: int) -> str:
    return f"{number:06d}-{sha256(shard)[:16]}.parquet"


def column_mean(table: Path, column: str) -> float:
    """Returns the mean of a numeric column of the Parquet file `table`, read in batches."""
    with pq.ParquetFile(table) as parquet:
        rows = parquet.metadata.num_rows
        if rows <= SHARD:
            return float(parquet.read([column]).to_pandas()[column].mean())
        batches = parquet.iter_batches(SHARD, columns=[column])
        return sum(float(batch.column(0).to_numpy().sum()) for batch in batches) / rows
