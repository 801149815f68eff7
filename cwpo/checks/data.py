"""Whether a run's data are there and its models can read them. Reads no rows."""

from collections.abc import Iterator
from pathlib import Path

from cwpo.config.assets import is_hub_id
from cwpo.config.schema import Config, DataConfig
from cwpo.errors import Problem, nearest


def data_problems(cfg: Config) -> Iterator[Problem]:
    data = cfg.data
    paths = data.path if isinstance(data.path, list) else [data.path]
    if data.path is not None and not (paths and all(isinstance(path, str) and path for path in paths)):
        text = f"data.path={data.path} must be a file, a list of files, or a hub id"
        yield Problem("data.path", text)
    elif data.source == "world":
        yield from _synthetic(data)
    elif data.source == "jsonl" and data.path is None:
        yield Problem("data.path", "data.path is required: a file, a list of files, or a hub id")
    elif data.source in ("hub", "jsonl"):
        yield from _published(data) if data.source == "hub" else _files(data, paths)
        yield from _readers(cfg)


def _synthetic(data: DataConfig) -> Iterator[Problem]:
    from cwpo.data.toy import DATASETS

    for key in ("pairs", "test_pairs"):
        if getattr(data, key) is None:
            yield Problem(f"data.{key}", f"data.{key} is required for synthetic data")
    if data.world not in DATASETS:
        yield Problem("data.world", f"data.world={data.world} is unknown; {nearest(data.world, DATASETS)}")


def _published(data: DataConfig) -> Iterator[Problem]:
    for key, what in (("path", "a folder or hub id"), ("layout", "the form of its files and rows")):
        if getattr(data, key) is None:
            text = f"data.{key} is required for a published data set: {what}"
            yield Problem(f"data.{key}", text)
    if data.path is None:
        return
    if not isinstance(data.path, str):
        text = f"data.path={data.path} must be one folder or hub id for a published data set"
        yield Problem("data.path", text)
    elif (file := Path(data.path).expanduser()).is_file():
        text = (
            f"data.path={data.path} is a file; name the folder with the data set's files, or use data=jsonl"
        )
        yield Problem("data.path", text)
    elif not file.is_dir() and not is_hub_id(data.path):
        text = f"data.path={data.path} does not exist; name a folder, or a hub id such as Anthropic/hh-rlhf"
        yield Problem("data.path", text)


def _files(data: DataConfig, paths: list[str]) -> Iterator[Problem]:
    from cwpo.data.rows import KNOWN

    for column in data.columns:
        if column not in KNOWN:
            key = f"data.columns.{column}"
            yield Problem(key, f"{key} does not name a column of a pair; {nearest(column, KNOWN)}")
    for path in paths:
        problem = _file(path)
        if problem is not None:
            yield Problem("data.path", f"data.path={path} {problem}")


def _file(path: str) -> str | None:
    from cwpo.data.files import SUFFIXES

    file = Path(path).expanduser()
    if file.is_dir():
        return "is a folder; name the file in it"
    if file.is_file():
        return "is empty" if file.stat().st_size == 0 else None
    local = path.startswith((".", "/", "~")) or path.endswith((*SUFFIXES, ".gz")) or path.count("/") > 1
    return "does not exist" if local else None


def _readers(cfg: Config) -> Iterator[Problem]:
    worlds = [
        f"pair.{who}={path}"
        for who, path in (("weak", cfg.pair.weak), ("strong", cfg.pair.strong))
        if path.startswith("world/")
    ]
    if worlds:
        yield Problem(
            "pair",
            f"{' and '.join(worlds)} can read only the synthetic world's sentences, but data={cfg.data.name} is real text; "
            "set pair.weak and pair.strong to checkpoint folders or hub ids",
        )
