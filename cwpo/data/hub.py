"""The paper's data sets as they are published: which files hold which split, and how a row becomes texts.

A local folder with the same files works like a data set id. From the hub only data files are fetched, at a given
revision; code in a data set never runs.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cwpo.config.hub import reach
from cwpo.data.dialogues import written
from cwpo.data.layouts import OWN, TableLayout
from cwpo.data.own_texts import Texts, pair_texts
from cwpo.errors import InputError, first_line

SUMMARY = "TL;DR:"


class Table(NamedTuple):
    """A file of pairs, or a data set's `split` and `folder`. domain: the pairs' origin. test: are they test pairs?"""

    path: str
    domain: str
    test: bool = False
    split: str | None = None
    folder: str | None = None


@dataclass(frozen=True)
class Published:
    """How a data set is published. train, test: the names of its splits. layout: its columns.

    texts: a function that reads a row's prompt and responses, with the arguments and result of pair_texts.
    """

    train: str
    test: str
    texts: Callable[..., Texts] = pair_texts
    layout: TableLayout = OWN


def published(data: Any) -> Iterator[Table]:
    """Yields a Table for each file of a data set, folder by folder. Raises InputError for a split without files."""
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
    """Returns, sorted, those of the file names that hold the split: one file, such as train.jsonl, or numbered parts.

    folder: the folder of the data set in which they lie; None for its root or data/.
    """
    place = re.escape(f"{folder}/") if folder else "(data/)?"
    name = re.compile(rf"{place}{split}(-\d+-of-\d+(-\w+)?)?\.(jsonl|json|parquet)(\.gz)?")
    return sorted(filter(name.fullmatch, names))


def split_files(root: Path, folder: str | None, split: str) -> list[Path]:
    """Returns the files of a split under `root`."""
    places = [root / folder] if folder else [root, root / "data"]
    files = (file for place in places if place.is_dir() for file in place.iterdir())
    return [root / name for name in split_names((str(file.relative_to(root)) for file in files), folder, split)]


def patterns(folder: str | None, layout: Published) -> list[str]:
    """Returns glob patterns of the files to fetch from the hub: those of both splits."""
    places = [f"{folder}/"] if folder else ["", "data/"]
    splits = (layout.train, layout.test)
    return [f"{at}{split}{end}" for at in places for split in splits for end in (".*", "-*")]


def _root(path: str, revision: str | None, folder: str | None, layout: Published) -> Path:
    """Returns `path` if it is a local folder, else the cache folder into which the hub's files are fetched."""
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
    """Reads the cells with pair_texts. Adds "TL;DR:" to the post if missing; removes it from the start of summaries."""
    post, *summaries, _ = pair_texts(*cells)
    post = post.rstrip()
    first, second = (" " + text.strip().removeprefix(SUMMARY).strip() for text in summaries)
    return Texts(post if post.endswith(SUMMARY) else f"{post}\n{SUMMARY}", first, second)


def _comments(*cells: Any) -> Texts:
    """Returns pair_texts of the cells: a post, formatted as the user's turn of a dialogue, and two comments."""
    post, *comments, _ = pair_texts(*cells)
    first, second = (" " + text.strip() for text in comments)
    return Texts(written([{"role": "user", "content": post.strip()}]), first, second)


LAYOUTS = {
    "hh_rlhf": Published("train", "test"),
    "tldr": Published("train", "valid1", _summaries),
    # The prompt is the common beginning of the messages; the column `prompt` has only its first message.
    "ufb": Published("train_prefs", "test_prefs", lambda prompt, *cells: pair_texts(None, *cells)),
    "shp": Published("train", "test", _comments, TableLayout("Stanford SHP", {}, positive="a")),
}
