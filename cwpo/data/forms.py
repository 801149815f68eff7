"""One row of a source as one pair: the three forms of own files, and what is wrong with a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cwpo.data.dialogues import TURN, split_dialogue
from cwpo.errors import InputError

FORMS = (
    ("prompt", "chosen", "rejected"),
    ("prompt", "response_a", "response_b", "label"),
    ("chosen", "rejected"),
)
# prompt, first, second and human_label ("a", "b", or "chosen": the first is); or None and why it is dropped.
Row = tuple[dict[str, str] | None, str]


def renamed(record: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Mapping[str, Any]:
    """The row with our column names beside its own; InputError where it lacks one that `columns` names."""
    absent = [f"{theirs} (data.columns.{ours})" for ours, theirs in columns.items() if theirs not in record]
    if absent:
        raise InputError(
            f"{where} lacks a column: it has {', '.join(record) or 'none'}, but not {', '.join(absent)}"
        )
    return {**record, **{ours: record[theirs] for ours, theirs in columns.items()}}


def as_pair(record: Mapping[str, Any], where: str) -> Row:
    """One record of any of FORMS; InputError where it is of none or holds something else than text."""
    form = next((form for form in FORMS if all(name in record for name in form)), None)
    if form is None:
        wanted = "; or ".join(", ".join(form) for form in FORMS)
        raise InputError(f"{where} lacks a column: it has {', '.join(record) or 'none'}, but needs {wanted}")
    for name in form:
        check_text(record[name], name, where)
    if "label" in form:
        label = record["label"].strip().lower()
        if label == "tie":
            return None, "ties"
        if label not in ("a", "b"):
            raise InputError(
                f'{where}: unknown label {record["label"]!r}; use "a", "b" or "tie" (ties are dropped)'
            )
        return dict(
            prompt=record["prompt"],
            first=record["response_a"],
            second=record["response_b"],
            human_label=label,
        ), ""
    if "prompt" in form:
        return dict(
            prompt=record["prompt"], first=record["chosen"], second=record["rejected"], human_label="chosen"
        ), ""
    sides = [split_dialogue(record[name]) for name in form]
    if sides[0] is None or sides[1] is None:
        raise InputError(
            f"{where}: no prompt column, and the text is no dialogue: it has no {TURN.strip()!r} turn"
        )
    (prompt, first), (other, second) = sides[0], sides[1]
    if prompt != other:
        return None, "prompts_differ"
    return dict(prompt=prompt, first=first, second=second, human_label="chosen"), ""


def check_text(value: Any, name: str, where: str) -> None:
    """InputError where the value of a column is no text, or none that a file can hold."""
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} is {type(value).__name__}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {name} has half a surrogate pair (\\ud800 to \\udfff), which no text can hold"
        ) from error
