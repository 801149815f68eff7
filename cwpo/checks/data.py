"""Checks that a run's data exist and that its models can read them. Reads no rows."""

from collections.abc import Iterator
from pathlib import Path

from cwpo.checks.reading import wrong
from cwpo.config.assets import is_hub_id
from cwpo.config.schema import Config
from cwpo.errors import Problem, nearest


def data_problems(cfg: Config) -> Iterator[Problem]:
    data = cfg.data
    paths = data.path if isinstance(data.path, list) else [data.path]
    if data.path is not None and not (paths and all(isinstance(path, str) and path for path in paths)):
        yield wrong(cfg, "data.path", "must be a file, a list of files, or a hub id")
    elif data.source == "world":
        yield from _synthetic(cfg)
    elif data.source == "jsonl" and data.path is None:
        yield Problem("data.path", "data.path is required: a file, a list of files, or a hub id")
    elif data.source in ("hub", "jsonl"):
        yield from _published(cfg) if data.source == "hub" else _files(cfg, paths)
        yield from _readers(cfg)


def _synthetic(cfg: Config) -> Iterator[Problem]:
    from cwpo.data.toy import DATASETS

    for key in ("pairs", "test_pairs"):
        if getattr(cfg.data, key) is None:
            yield Problem(f"data.{key}", f"data.{key} is required for synthetic data")
    if cfg.data.world not in DATASETS:
        yield wrong(cfg, "data.world", f"is unknown; {nearest(cfg.data.world, DATASETS)}")


def _published(cfg: Config) -> Iterator[Problem]:
    path = cfg.data.path
    for key, what in (("path", "a folder or hub id"), ("layout", "the form of its files and rows")):
        if getattr(cfg.data, key) is None:
            yield Problem(f"data.{key}", f"data.{key} is required for a published data set: {what}")
    if path is None:
        return
    file = Path(str(path)).expanduser()
    if not isinstance(path, str):
        yield wrong(cfg, "data.path", "must be one folder or hub id for a published data set")
    elif file.is_file():
        yield wrong(cfg, "data.path", "is a file; name the folder with the data set's files, or use data=jsonl")
    elif not file.is_dir() and not is_hub_id(path):
        yield wrong(cfg, "data.path", "does not exist; name a folder, or a hub id such as Anthropic/hh-rlhf")


def _files(cfg: Config, paths: list[str]) -> Iterator[Problem]:
    from cwpo.data.files import SUFFIXES
    from cwpo.data.rows import KNOWN

    for column in cfg.data.columns:
        if column not in KNOWN:
            key = f"data.columns.{column}"
            yield Problem(key, f"{key} does not name a column of a pair; {nearest(column, KNOWN)}")
    if cfg.data.test_prompts != "any":
        yield wrong(
            cfg, "data.test_prompts", "is for data sets that come with test pairs of their own; leave it at any"
        )
    for path in paths:
        file, why = Path(path).expanduser(), ""
        local = path.startswith((".", "/", "~")) or path.endswith((*SUFFIXES, ".gz")) or path.count("/") > 1
        if file.is_dir():
            why = "is a folder; name the file in it"
        elif file.is_file():
            why = "" if file.stat().st_size else "is empty"
        elif local:
            why = "does not exist"
        if why:
            yield Problem("data.path", f"data.path={path} {why}")


def _readers(cfg: Config) -> Iterator[Problem]:
    models = {"pair.weak": cfg.pair.weak, "pair.strong": cfg.pair.strong}
    worlds = [f"{key}={path}" for key, path in models.items() if path.startswith("world/")]
    if worlds:
        why = f"can read only the synthetic world's sentences, but data={cfg.data.name} is real text; set pair.weak and"
        yield Problem("pair", f"{' and '.join(worlds)} {why} pair.strong to checkpoint folders or hub ids")
