"""The paper's data sets as they are published: which files hold which split, and what a row of theirs means.

A folder here with the same files does as well as a data set of the hub. From the hub only the files themselves are taken,
at a given revision; nothing in it is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwpo.data.dialogues import SPEAKERS, written
from cwpo.data.forms import Row, as_pair, check_text
from cwpo.data.lines import json_lines
from cwpo.data.tables import records
from cwpo.errors import InputError

SUMMARY = "TL;DR:"


@dataclass(frozen=True)
class Layout:
    """Names of the splits to train and to test on, and how a row becomes a pair."""

    train: str
    test: str
    pair: Callable[[Mapping[str, Any], str], Row]


def published(data: Any) -> Iterator[tuple[str, str, bool, Mapping[str, Any]]]:
    """(where, domain, whether it is a test row, row) of a data set in the layout `data.layout`, its `folders` in turn."""
    layout = LAYOUTS[data.layout]
    for folder in data.folders or [None]:
        root = _root(data.path, data.revision, folder, layout)
        for split in (layout.train, layout.test):
            files = split_files(root, folder, split)
            if not files:
                place = f"{folder}/{split}" if folder else split
                raise InputError(
                    f"data.path={data.path} has no split {place}: a file {place}.jsonl.gz, .jsonl, .json or .parquet, or parts of "
                    "a .parquet, is needed there"
                )
            for file in files:
                for number, record in _rows(file):
                    yield f"{file}:{number}", folder or data.name, split == layout.test, record


def split_files(root: Path, folder: str | None, split: str) -> list[Path]:
    """The files of a split under `root`: one, or the numbered parts of one, in order."""
    name = re.compile(rf"{split}(-\d+-of-\d+(-\w+)?)?\.(jsonl|json|parquet)(\.gz)?")
    places = [root / folder] if folder else [root, root / "data"]
    return sorted(
        file for place in places if place.is_dir() for file in place.iterdir() if name.fullmatch(file.name)
    )


def patterns(folder: str | None, layout: Layout) -> list[str]:
    """What to fetch of a data set of the hub."""
    places = [f"{folder}/"] if folder else ["", "data/"]
    return [
        f"{at}{split}{end}" for at in places for split in (layout.train, layout.test) for end in (".*", "-*")
    ]


def _root(path: str, revision: str | None, folder: str | None, layout: Layout) -> Path:
    """The folder itself, or where the hub's files lie in the cache once they are there."""
    local = Path(path).expanduser()
    if local.is_dir():
        return local
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            path, repo_type="dataset", revision=revision, allow_patterns=patterns(folder, layout)
        )
    except Exception as error:  # the hub client raises many kinds; each means the data set cannot be had
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"data.path={path} is neither a folder here nor a data set that the hub or its cache can give: {reason}"
        ) from error
    return Path(found)


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return records(str(file)) if ".parquet" in file.suffixes else json_lines(file)


def _summaries(record: Mapping[str, Any], where: str) -> Row:
    """A post and two summaries, of which the mirror begins each with "TL;DR:"; here the prompt ends with it."""
    row, reason = as_pair(record, where)
    if row is None:
        return row, reason
    post = row["prompt"].rstrip()
    row["prompt"] = post if post.endswith(SUMMARY) else f"{post}\n{SUMMARY}"
    for side in ("first", "second"):
        row[side] = " " + row[side].strip().removeprefix(SUMMARY).strip()
    return row, reason


def _messages(record: Mapping[str, Any], where: str) -> Row:
    """Two lists of chat messages that differ in the last one."""
    sides = [_chat(record.get(name), name, where) for name in ("chosen", "rejected")]
    (*asked, (_, first)), (*other, (_, second)) = sides
    if asked != other:
        return None, "prompts_differ"
    return dict(prompt=written(asked), first=f" {first}", second=f" {second}", human_label="chosen"), ""


def _chat(messages: Any, name: str, where: str) -> list[tuple[str, str]]:
    pairs: list[tuple[Any, Any]] = [
        (message.get("role"), message.get("content"))
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, Mapping)
    ]
    if len(pairs) < 2 or any(role not in SPEAKERS for role, _ in pairs) or pairs[-1][0] != "assistant":
        raise InputError(
            f"{where}: {name} is no list of messages with role and content that ends with the assistant's"
        )
    for _, content in pairs:
        check_text(content, name, where)
    return pairs


def _comments(record: Mapping[str, Any], where: str) -> Row:
    """A post and two comments; `label` is 1 where people prefer the first, 0 where the second."""
    label = record.get("label")
    if isinstance(label, bool) or label not in (0, 1):
        raise InputError(
            f"{where}: the label is {label!r}; it must be 1 (the first comment) or 0 (the second)"
        )
    row, reason = as_pair({**record, "label": "a" if label == 1 else "b"}, where)
    if row is None:
        return row, reason
    row["prompt"] = written([("user", row["prompt"].strip())])
    for side in ("first", "second"):
        row[side] = " " + row[side].strip()
    return row, reason


LAYOUTS = {
    "hh_rlhf": Layout("train", "test", as_pair),
    "tldr": Layout("train", "valid1", _summaries),
    "ufb": Layout("train_prefs", "test_prefs", _messages),
    "shp": Layout("train", "test", _comments),
}
