"""A user's own pairs: any table, with one label, a list of votes, or none for each pair; problems counted by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwpo.data.own_texts import own_messages, pair_messages, pair_texts
from cwpo.data.sources import TURN, pair_id
from cwpo.data.tables import records
from cwpo.errors import InputError

KNOWN = ("prompt", "response_a", "response_b", "chosen", "rejected", "label", "votes", "domain")
SIDES = {"a": 1.0, "b": 0.0, "tie": 0.5, "response_a": 1.0, "response_b": 0.0, "0": 1.0, "1": 0.0}
CHUNK = 2_000  # pairs in memory at a time
SHOWN = 5  # row numbers named for each kind of problem
SCHEMA = pa.schema(
    [("pair_id", pa.string()), ("row", pa.int64())]
    + [(name, pa.string()) for name in ("prompt", "response_a", "response_b", "domain")]
    + [("target", pa.float64()), ("share", pa.float64()), ("n_votes", pa.int64())]
    + [("messages", pa.string())]  # JSON: the prompt's messages, null where the row is plain text
)


@dataclass
class Converted:
    """How a table was read: rows, pairs kept, pairs with a label, and for each drop reason the rows."""

    read: int = 0
    kept: int = 0
    labeled: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, list[int]] = field(default_factory=dict)

    def drops(self) -> str:
        """The reasons with their counts and first rows."""
        return (
            "; ".join(f"{reason} {len(rows)} ({_rows(rows)})" for reason, rows in self.dropped.items())
            or "none"
        )

    def named(self, problem: str) -> str:
        """How many rows have it, and the first of them."""
        rows = self.wrong[problem]
        return f"{len(rows)} rows {problem}: {_rows(rows)}"


def convert(
    path: str,
    out: Path,
    columns: Mapping[str, str] | None = None,
    *,
    ties: str = "drop",
    split: str | None = None,
) -> Converted:
    """Write the pairs of any table to parquet `out` with the columns of SCHEMA, as a stream.

    `columns` maps our names (KNOWN) to the table's. A label is "a", "b" or "tie", or a 0 or 1 that counts responses; votes are a
    list of labels, or one text with commas or bars between them. Texts are as `pair_texts` reads them.
    share: the share of a pair's votes that are for a, a tie counting half; NaN without any. target is what an annotator learns:
    with ties="drop" 1 or 0, the majority's, and pairs without a majority are left out; with ties="soft" the share itself. Of
    pairs that occur several times the first is kept. Raises InputError for an unreadable table, missing columns, or values of a
    wrong kind, with the rows; nothing is left at `out` then.
    """
    names = dict(columns or {})
    problems = [
        f"columns.{name} is unknown; valid: {', '.join(KNOWN)}" for name in sorted(set(names) - set(KNOWN))
    ]
    if ties not in ("drop", "soft"):
        problems.append(f"ties={ties} is unknown; valid: drop, soft")
    if problems:
        raise InputError(problems)
    done = Converted()
    try:
        with pq.ParquetWriter(out, SCHEMA) as writer:
            rows: list[dict[str, Any]] = []
            for row in _usable(path, names, ties, split, done):
                rows.append(row)
                if len(rows) == CHUNK:
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        if done.wrong:
            raise InputError([f"{path}: {done.named(what)}" for what in done.wrong])
        if not done.read:
            raise InputError(f"{path} holds no rows")
        if not done.kept:
            raise InputError(f"{path}: none of {done.read} rows can be used ({done.drops()})")
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return done


def _usable(
    path: str, names: Mapping[str, str], ties: str, split: str | None, done: Converted
) -> Iterator[dict[str, Any]]:
    """Rows of SCHEMA; what is left out, or wrong, is noted by the way."""
    seen: set[int] = set()
    absent = set(names)
    for number, record in records(path, split):
        done.read += 1
        if done.read == 1:
            _check_columns(path, record, names)
        absent -= {ours for ours in absent if names[ours] in record}
        pair, reason, problem = _pair(record, names, ties)
        if problem:
            done.wrong.setdefault(problem, []).append(number)
            continue
        if pair is not None:
            pair["pair_id"] = pair_id(pair["prompt"], pair["response_a"], pair["response_b"])
            digest = int(pair["pair_id"], 16)
            reason = "repeated" if digest in seen else ""
            seen.add(digest)
        if pair is None or reason:
            done.dropped.setdefault(reason, []).append(number)
            continue
        done.kept += 1
        done.labeled += pair["n_votes"] > 0
        yield {"row": number, **pair}
    if done.read and absent:  # the first rows of JSON lines may lack what later ones have; no row has these
        raise InputError([f"{path} has no column {names[ours]} (columns.{ours})" for ours in sorted(absent)])


def _rows(rows: list[int]) -> str:
    named = ", ".join(map(str, rows[:SHOWN]))
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"row {named}{more}"


def _check_columns(path: str, record: Mapping[str, Any], names: Mapping[str, str]) -> None:
    have = {ours for ours in KNOWN if names.get(ours, ours) in record}
    sides = next((s for s in (("response_a", "response_b"), ("chosen", "rejected")) if {*s} <= have), None)
    first = record[names.get(sides[0], sides[0])] if sides else None
    if sides is None or ("prompt" not in have and isinstance(first, str) and TURN not in first):
        raise InputError(
            f"{path} needs the columns prompt, response_a, response_b, or prompt, chosen, rejected; it has "
            f"{', '.join(map(str, record))}. Name yours with +columns.prompt=... and so on"
        )


def _pair(
    record: Mapping[str, Any], names: Mapping[str, str], ties: str
) -> tuple[dict[str, Any] | None, str, str]:
    """The pair, why it is left out, and what is wrong with it."""
    get = {ours: record.get(names.get(ours, ours)) for ours in KNOWN}
    ordered = get["response_a"] is None and get["chosen"] is not None
    sides = ("chosen", "rejected") if ordered else ("response_a", "response_b")
    share, votes, problem = (1.0, 1, "") if ordered else vote_share(get["label"], get["votes"])
    if problem:
        return None, "", problem
    given = (own_messages(record) or get["prompt"], get[sides[0]], get[sides[1]])
    texts, reason, problem = pair_texts(*given, sides)
    if texts is None:
        return None, reason, problem
    prompt, first, second = texts
    if ordered and int(pair_id(*texts), 16) % 2:  # the side of the better one must not tell which it is
        first, second, share = second, first, 0.0
    if share == 0.5 and ties == "drop":
        return None, "no_majority", ""
    target = share if ties == "soft" or np.isnan(share) else float(share > 0.5)
    domain = "" if get["domain"] is None else str(get["domain"])
    pair = {"prompt": prompt, "response_a": first, "response_b": second, "domain": domain}
    return (
        pair | {"target": target, "share": share, "n_votes": votes, "messages": pair_messages(*given)},
        "",
        "",
    )


def vote_share(label: Any, votes: Any = None) -> tuple[float, int, str]:
    """(share of votes for a, or NaN; number of votes; what is wrong). Votes count where there are both."""
    given = list(votes) if isinstance(votes, (list, tuple, np.ndarray)) else []
    if isinstance(votes, str):
        given = [vote for vote in votes.replace("|", ",").split(",") if vote.strip()]
    elif votes is not None and not _is_nan(votes) and not isinstance(votes, (list, tuple, np.ndarray)):
        return np.nan, 0, "have votes that are neither a list nor text"
    if given:
        shares = [side for vote in given if (side := _side(vote)) is not None]
        if len(shares) < len(given):
            return np.nan, 0, 'have votes other than "a", "b", "tie", 0 or 1'
        return float(np.mean(shares)), len(shares), ""
    if label is None or _is_nan(label) or (isinstance(label, str) and not label.strip()):
        return np.nan, 0, ""
    side = _side(label)
    return (np.nan, 0, 'have a label other than "a", "b", "tie", 0 or 1') if side is None else (side, 1, "")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _side(label: Any) -> float | None:
    if isinstance(label, (bool, np.bool_)):
        return None
    if isinstance(label, (int, float, np.integer, np.floating)):
        return SIDES[str(int(label))] if label in (0, 1) else None
    return SIDES.get(label.strip().lower()) if isinstance(label, str) else None
