"""Weighted pairs as `scripts/align.py` reads them: any table with prompt, chosen, rejected and a weight."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.own import Converted
from cwpo.data.own_texts import own_messages, pair_messages, pair_texts
from cwpo.data.tables import records
from cwpo.errors import InputError
from cwpo.weighting import most_confident

TEXTS = ("prompt", "chosen", "rejected")


def read_weighted(path: str, weight_column: str = "weight") -> tuple[pd.DataFrame, Converted]:
    """prompt, chosen, rejected, weight, and confidence and label_source where the table has them; what was left out.

    Raises InputError, with the rows, for missing columns, texts that are none and weights that are not finite or negative.
    """
    done = Converted()
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, ...]] = set()
    for number, record in records(path):
        done.read += 1
        absent = [name for name in (*TEXTS, weight_column) if name not in record]
        if absent:
            raise InputError(
                f"{path} row {number} lacks the column {', '.join(absent)}; it has {', '.join(map(str, record))}. Weights are never "
                "assumed: add a column of ones for unweighted training"
            )
        record = _as_texts(record)
        weight = _number(record[weight_column])
        wrong = [f"have a {name} that is no text" for name in TEXTS if not isinstance(record[name], str)]
        if weight is None or not 0 <= weight < np.inf:
            wrong.append(f"have a {weight_column} that is no finite number of at least 0")
        for problem in wrong:
            done.wrong.setdefault(problem, []).append(number)
        if wrong:
            continue
        texts = tuple(record[name] for name in TEXTS)
        reason = (
            "empty_response"
            if not texts[1].strip() or not texts[2].strip()
            else "identical_responses"
            if texts[1] == texts[2]
            else "repeated"
            if texts in seen
            else ""
        )
        if reason:
            done.dropped.setdefault(reason, []).append(number)
            continue
        seen.add(texts)
        known = {name: record.get(name) for name in ("confidence", "label_source", "messages")}
        rows.append(dict(zip(TEXTS, texts, strict=True)) | known | {"weight": weight, "row": number})
    if done.wrong:
        raise InputError([f"{path}: {done.named(what)}" for what in done.wrong])
    if not rows:
        raise InputError(f"{path}: none of {done.read} rows can be used ({done.drops()})")
    done.kept = len(rows)
    table = pd.DataFrame(rows)
    if not table["weight"].any():
        raise InputError(f"{path}: all {len(table)} weights are 0, so there is nothing to learn")
    return table, done


def _as_texts(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its texts as text, and the prompt's messages, as JSON, in `messages` where it has some."""
    prompt, chosen, rejected = (record[name] for name in TEXTS)
    asked = own_messages(record) or prompt
    texts, _, _ = pair_texts(asked, chosen, rejected, TEXTS[1:])
    if texts is None or prompt is None:
        return {**record, "messages": None}
    return {
        **record,
        **dict(zip(TEXTS, texts, strict=True)),
        "messages": pair_messages(asked, chosen, rejected),
    }


def keep_confident(table: pd.DataFrame, share: float, path: str) -> pd.DataFrame:
    """Without the annotator's least confident labels; people's labels, which have no confidence, stay."""
    if share == 1.0:
        return table
    sure = pd.to_numeric(table["confidence"]).to_numpy(dtype=float)
    known = ~np.isnan(sure)
    if not known.any():
        raise InputError(f"keep={share} chooses by confidence, and no row of {path} has one")
    kept = ~known
    kept[known] = most_confident(sure[known], share)
    return table[kept].reset_index(drop=True)


def _number(value: Any) -> float | None:
    if isinstance(value, str):  # of a CSV file
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
