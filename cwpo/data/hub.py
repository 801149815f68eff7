"""The paper's data sets as they are published: which files hold which split, and how a row becomes texts.

A folder here with the same files does as well as a data set id. From the hub only the files themselves are taken, at a
given revision; no code in it ever runs.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cwpo.config.hub import reach
from cwpo.data.dialogues import written
from cwpo.data.layouts import OWN, Layout
from cwpo.data.own_texts import Texts, pair_texts
from cwpo.errors import InputError, first_line

SUMMARY = "TL;DR:"


class Table(NamedTuple):
    """One file of pairs, or one part of a data set on the hub (`folder`); all its rows are test rows or none is."""

    path: str
    domain: str
    test: bool = False
    split: str | None = None
    folder: str | None = None


@dataclass(frozen=True)
class Published:
    """Names of the splits to train and to test on, the texts of a row, and what its label means."""

    train: str
    test: str
    texts: Callable[..., Texts] = pair_texts
    layout: Layout = OWN


def published(data: Any) -> Iterator[Table]:
    """The files of a data set in the layout `data.layout`, those of its `folders` in turn."""
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
                yield Table(str(file), folder or data.name, split == layout.test)


def split_names(names: Iterable[str], folder: str | None, split: str) -> list[str]:
    """Of the names of a data set's files, those of a split: one, or the numbered parts of one, in order."""
    place = re.escape(f"{folder}/") if folder else "(data/)?"
    name = re.compile(rf"{place}{split}(-\d+-of-\d+(-\w+)?)?\.(jsonl|json|parquet)(\.gz)?")
    return sorted(filter(name.fullmatch, names))


def split_files(root: Path, folder: str | None, split: str) -> list[Path]:
    """The files of a split under `root`."""
    places = [root / folder] if folder else [root, root / "data"]
    files = (file for place in places if place.is_dir() for file in place.iterdir())
    return [root / name for name in split_names((str(file.relative_to(root)) for file in files), folder, split)]


def patterns(folder: str | None, layout: Published) -> list[str]:
    """The files to fetch from the hub."""
    places = [f"{folder}/"] if folder else ["", "data/"]
    splits = (layout.train, layout.test)
    return [f"{at}{split}{end}" for at in places for split in splits for end in (".*", "-*")]


def _root(path: str, revision: str | None, folder: str | None, layout: Published) -> Path:
    """The folder itself, or the folder of the cache into which the hub's files are fetched."""
    local = Path(path).expanduser()
    if local.is_dir():
        return local
    reach(path)
    from huggingface_hub import snapshot_download

    files = patterns(folder, layout)
    try:
        return Path(snapshot_download(path, repo_type="dataset", revision=revision, allow_patterns=files))
    except Exception as error:  # the hub client raises many kinds; each means the data set cannot be had
        what = "neither a local folder nor a data set that the hub or its cache has"
        raise InputError(f"data.path={path} is {what}: {first_line(error)}") from error


def _summaries(*cells: Any) -> Texts:
    """A post and two summaries. Where the published file begins a summary with "TL;DR:", here the prompt ends with it."""
    post, *summaries, _ = pair_texts(*cells)
    post = post.rstrip()
    first, second = (" " + text.strip().removeprefix(SUMMARY).strip() for text in summaries)
    return Texts(post if post.endswith(SUMMARY) else f"{post}\n{SUMMARY}", first, second)


def _comments(*cells: Any) -> Texts:
    """A post and two comments, written as a dialogue."""
    post, *comments, _ = pair_texts(*cells)
    first, second = (" " + text.strip() for text in comments)
    return Texts(written([{"role": "user", "content": post.strip()}]), first, second)


LAYOUTS = {
    "hh_rlhf": Published("train", "test"),
    "tldr": Published("train", "valid1", _summaries),
    # messages, whose prompt is their common beginning; the column has its first message only
    "ufb": Published("train_prefs", "test_prefs", lambda prompt, *cells: pair_texts(None, *cells)),
    "shp": Published("train", "test", _comments, Layout("Stanford SHP", {}, positive="a")),
}
