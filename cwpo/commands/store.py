"""The command `store`: lists, verifies, explains or exports stages of a store, deletes damaged or unneeded ones."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from cwpo.atomic import let_others_read
from cwpo.commands.sweep import with_references
from cwpo.errors import InputError, nearest
from cwpo.pipeline.arms import expand
from cwpo.pipeline.explain import explain
from cwpo.pipeline.graph import KINDS
from cwpo.results import AGAIN, UNREADABLE, ResultsError
from cwpo.store.manifest import StoreError
from cwpo.store.store import Store, entries, remove

DAY = 86400.0  # seconds
ROWS_OF_ARMS = ("runs.csv", "annotators.csv")  # the result files with a row per arm; others repeat its key
# Kinds of stages kept with their parents though no row has their key or a descendant's: rows have their measurements.
MEASURES = tuple(stage.name for stage in KINDS.values() if stage.measure)


@dataclass(frozen=True)
class StoredStage:
    """A finished stage: its size in bytes, age and run time in seconds. A damaged stage has no run time: None."""

    stage: str
    key: str
    size: int
    age: float
    seconds: float | None

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.key}"


def look_after(cfg: Any) -> None:
    """Runs cfg.action. Raises InputError for wrong settings, StoreError for damaged stages or for gc during a run."""
    store = Store(cfg.store)
    if not store.root.is_dir():
        fix = "name the folder that runs used, by default runs/store"
        raise InputError(f"store={cfg.store} does not exist; {fix}")
    ACTIONS[cfg.action](store, cfg)


def stages(store: Store) -> Iterator[StoredStage]:
    """Yields every finished stage of the store, including those with a damaged manifest."""
    for stage, key in store.finished():
        seconds = None
        with suppress(StoreError):
            seconds = float(store.recorded(stage, key)["seconds"])
        folder = store.folder(stage, key)
        yield StoredStage(stage, key, _size(folder), max(0.0, time.time() - folder.lstat().st_mtime), seconds)


def referred_to(results: Path) -> set[str]:
    """Returns the run keys in results/*/*.csv*. InputError if no file has run keys, ResultsError if one is damaged."""
    keys: list[set[str]] = []  # one set for each file
    for file in sorted(results.glob("*/[!.]*.csv*")):
        try:
            if "run_key" in pd.read_csv(file, nrows=0):
                keys.append({*pd.read_csv(file, usecols=["run_key"], dtype=str)["run_key"].dropna()})
            elif file.name in ROWS_OF_ARMS:
                raise ResultsError(f"{file} has no column run_key, so its run keys are unknown; {AGAIN}")
        except UNREADABLE as error:
            raise ResultsError(f"{file} is empty or damaged, so its run keys are unknown; {AGAIN}") from error
    if not keys:
        raise InputError(
            f"results={results} holds no result files, so all of the store would count as garbage; set results=<the "
            "folder of your results>"
        )
    return set().union(*keys)


def garbage(store: Store, keys: set[str], older_than: float) -> list[StoredStage]:
    """Returns the stages that nothing needs and that are older than `older_than` seconds.

    Needed are: the stages in `keys` and their ancestors; each stage of a kind in MEASURES whose parents are all needed;
    the ancestors of younger stages. Raises StoreError if a manifest is damaged, since its ancestors are unknown.
    """
    parents = {(s, k): store.recorded(s, k)["parents"] for s, k in store.finished()}
    stage_of = {key: stage for stage, key in parents}
    kept: set[str] = set()

    def keep(key: str) -> None:
        if key in stage_of and key not in kept:
            kept.add(key)
            for parent in parents[stage_of[key], key].values():
                keep(parent)

    for key in keys:
        keep(key)
    for (stage, key), needs in parents.items():
        if stage in MEASURES and set(needs.values()) <= kept:
            keep(key)
    for entry in stages(store):
        if entry.age < older_than:
            keep(entry.key)
    return [entry for entry in stages(store) if entry.key not in kept]


def _verify(store: Store, cfg: Any) -> None:
    sizes, problems = [], [line for lines in _damaged(store).values() for line in lines]
    finished = list(store.finished())
    for stage, key in finished:
        with suppress(StoreError):
            sizes += [entry["bytes"] for entry in store.recorded(stage, key)["files"].values()]
    print(f"{len(finished)} stages, {len(sizes)} files, {decimal(sum(sizes))} read")
    for left in _left_over(store):
        print(f"left by a killed or live run: {left}; the next run removes it, or action=gc")
    for line in problems:
        print(line)
    if problems:
        raise StoreError(
            f"{len(problems)} files are damaged; python scripts/store.py action=repair deletes their stages, and the runs "
            "that need them compute them again"
        )
    print("all files are as they were written")


def _list(store: Store, cfg: Any) -> None:
    everything = list(stages(store))
    named = [e for e in everything if not cfg.stages or e.stage in cfg.stages or e.name in cfg.stages]
    if cfg.stages:
        table = Table("stage", "size", "age", "seconds")
        for entry in sorted(named, key=lambda e: (e.stage, e.age)):
            seconds = "damaged" if entry.seconds is None else f"{entry.seconds:.1f}"
            table.add_row(entry.name, decimal(entry.size), _age(entry.age), seconds)
    else:
        table = Table("stage", "count", "size", "oldest", "newest", "seconds in all")
        for stage, entries_of in groupby(everything, key=lambda e: e.stage):
            group = list(entries_of)
            ages, took = [entry.age for entry in group], sum(entry.seconds or 0 for entry in group)
            times = _age(max(ages)), _age(min(ages)), f"{took:.1f}"
            table.add_row(stage, str(len(group)), decimal(_total(group)), *times)
    Console().print(table)
    print(f"{len(named)} stages, {decimal(_total(named))}; stages=[sft] lists those of a kind")


def _explain(store: Store, cfg: Any) -> None:
    for line in explain(store, with_references(expand(cfg.overrides), cfg.overrides)[0]):
        print(line)


def _gc(store: Store, cfg: Any) -> None:
    if held := store.held():
        raise StoreError(f"a run is at work on {', '.join(held)}; wait for it, or stop it, and try again")
    keys = referred_to(Path(cfg.results))
    unneeded, left = garbage(store, keys, cfg.older_than_days * DAY), _left_over(store)
    absent = len(keys - {key for _, key in store.finished()})
    if absent:
        print(f"{absent} of {len(keys)} rows in {cfg.results} are of runs that are not in this store")
    for name, count in sorted(Counter(entry.stage for entry in unneeded).items()):
        print(f"{name}: {count}, {decimal(_total(entry for entry in unneeded if entry.stage == name))}")
    for path in left:
        print(f"left over: {path}")
    size = _total(unneeded) + sum(map(_size, left))
    what = f"{len(unneeded)} stages and {len(left)} left-overs, {decimal(size)}"
    if not cfg.delete:
        print(f"{what}, are not needed; nothing was deleted: add delete=true")
        return
    for entry in unneeded:
        store.drop(entry.stage, entry.key)
    for path in left:
        remove(path)
    store.forget_locks()
    print(f"deleted {what}")


def _damaged(store: Store) -> dict[tuple[str, str], list[str]]:
    """Returns {(stage, key): a line per damaged file} of damaged stages.

    Leaves out each stage of an unknown kind, and prints a line for it.
    """
    damage = store.damaged()
    for stage, key in damage:
        if stage not in KINDS:
            print(
                f"{store.folder(stage, key)} stays: {stage} is no kind of stage; delete it yourself if it is not needed"
            )
    return {(stage, key): lines for (stage, key), lines in damage.items() if stage in KINDS}


def _export(store: Store, cfg: Any) -> None:
    """Merges a stage's LoRA adapters into their base model and writes one ordinary checkpoint to cfg.out."""
    from cwpo.models.adapters import base_of, is_adapters  # late: they import torch
    from cwpo.models.policy import export

    (stage, key), *others = _named(store, cfg)
    folder = store.folder(stage, key) / "model"
    if others or cfg.out is None or Path(cfg.out).expanduser().exists():
        raise InputError(
            f"action=export needs one stage, and out=<a new folder>; got stages={cfg.stages}, out={cfg.out}"
        )
    if not is_adapters(folder):
        raise InputError(
            f"stages={stage}/{key} holds no adapters; if it has a model, {folder} is an ordinary checkpoint"
        )
    store.manifest(stage, key)
    export(folder, Path(cfg.out).expanduser(), cfg.dtype)
    let_others_read(Path(cfg.out).expanduser())
    print(
        f"{cfg.out}: {stage}/{key}, merged in float32, saved in {base_of(folder).dtype if cfg.dtype == 'base' else cfg.dtype}"
    )


def _named(store: Store, cfg: Any) -> list[tuple[str, str]]:
    """Returns (stage, key) of each stage in cfg.stages. Raises InputError if none is named or one does not exist."""
    if not cfg.stages:
        raise InputError(
            f"action={cfg.action} needs stages=[<stage>/<key>,...]; action=list stages=[<stage>] lists them"
        )
    there = {f"{stage}/{key}": (stage, key) for stage, key in store.finished()}
    unknown = {name: _nearest(name, list(there)) for name in cfg.stages if name not in there}
    if unknown:
        raise InputError([f"stages={name} is not in {store.root}; {near}" for name, near in unknown.items()])
    return [there[name] for name in cfg.stages]


def _drop_these(store: Store, stages: list[tuple[str, str]]) -> None:
    for stage, key in stages:
        store.drop(stage, key)
        print(f"deleted {store.folder(stage, key)}")
    again = "a run that needs them computes them again, the same bytes on the same machine"
    print(f"{len(stages)} stages deleted; {again}")


ACTIONS: dict[str, Callable[[Store, Any], None]] = {
    "verify": _verify,
    "list": _list,
    "explain": _explain,
    "gc": _gc,
    "repair": lambda store, cfg: _drop_these(store, list(_damaged(store))),
    "drop": lambda store, cfg: _drop_these(store, _named(store, cfg)),
    "export": _export,
}


def _nearest(name: str, there: list[str]) -> str:
    same = [known for known in there if known.startswith(name.partition("/")[0] + "/")]
    return nearest(name, same[:5] or sorted({known.partition("/")[0] for known in there}))


def _left_over(store: Store) -> list[Path]:
    return [path for place in (".partial", ".scratch") for path in entries(store.root / place)]


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(Path(folder, name).lstat().st_size for folder, _, names in os.walk(path) for name in names)


def _total(stages: Iterable[StoredStage]) -> int:
    return sum(entry.size for entry in stages)


def _age(seconds: float) -> str:
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
