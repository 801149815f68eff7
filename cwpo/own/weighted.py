"""Reads weighted pairs for scripts/align.py: rows of (prompt, chosen, rejected) or labelled pairs, with weights."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.files import records
from cwpo.data.rows import Converted, PairReader
from cwpo.errors import InputError
from cwpo.weighting import most_confident

TEXTS = ("prompt", "chosen", "rejected")


def read_weighted(path: str, weight_column: str = "weight", split: str | None = None) -> tuple[pd.DataFrame, Converted]:
    """Returns (weighted pairs, how they were read). `split`: which split of a data set to read (see `records`).

    Columns: prompt, chosen, rejected, confidence, margin, label_source, messages, weight, row. confidence, margin and
    label_source are None if the user's table lacks them. Raises InputError for missing columns, texts of a wrong type,
    weights that are negative or not finite, confidences that are no numbers, no usable row, and weights that are all 0.
    """
    reader = PairReader(path)
    done = reader.done
    table: list[dict[str, Any]] = []
    seen: set[tuple[str, ...]] = set()
    for number, pair, _, row in reader.read(records(path, split, key="preferences_split")):
        if weight_column not in row:
            raise InputError(
                f"{path} row {number} lacks the column {weight_column}; it has {', '.join(map(str, row))}. Weights are never "
                "assumed: add a column of ones for unweighted training"
            )
        weight = _number(row[weight_column])
        if weight is None or not 0 <= weight < np.inf:
            done.refuse(f"have a {weight_column} that is not a finite number of at least 0", number, row[weight_column])
            continue
        confidence = row.get("confidence")
        if confidence is not None and _number(confidence) is None:
            done.refuse(
                "have a confidence that is not a number; leave it blank where it is unknown", number, confidence
            )
            continue
        if pair is None:
            continue
        *texts, messages = (pair if pair.share > 0.5 else pair.turned()).texts
        reason = "unlabeled" if not pair.n_votes else "no_majority" if pair.share == 0.5 else ""
        if reason or tuple(texts) in seen:
            done.drop(reason or "repeated", number)
            continue
        seen.add(tuple(texts))
        known = {name: row.get(name) for name in ("confidence", "margin", "label_source")}
        known |= {"messages": messages, "weight": weight, "row": number}
        table.append(dict(zip(TEXTS, texts, strict=True)) | known)
    if not table:
        raise InputError(f"{path}: none of {done.read} rows can be used ({done.drops()})")
    done.kept = len(table)
    if not any(row["weight"] for row in table):
        raise InputError(f"{path}: all {len(table)} weights are 0, so there is nothing to learn; make some positive")
    return pd.DataFrame(table), done


def keep_confident(table: pd.DataFrame, share: float, path: str) -> pd.DataFrame:
    """Returns the most confident `share` of the annotator's labels, and all human labels, which have no confidence.

    Among equal confidences, larger margins come first. InputError if share < 1 and no pair of `path` has a confidence.
    """
    if share == 1.0:
        return table
    sure = pd.to_numeric(table["confidence"]).to_numpy(dtype=float)
    known = ~np.isnan(sure)
    if not known.any():
        raise InputError(f"keep={share} chooses by confidence, and no row of {path} has one; use keep=1")
    margin = pd.to_numeric(table["margin"], errors="coerce").fillna(0).to_numpy(dtype=float)
    place = np.lexsort((-margin, -sure)).argsort()  # rank of each pair, 0 for the most confident
    kept = ~known
    kept[known] = most_confident(-place[known], share)
    return table[kept].reset_index(drop=True)


def _number(value: Any) -> float | None:
    if isinstance(value, str):  # a cell of a CSV file
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
