"""The command `store`: lists, verifies and explains the stages of a store, and deletes damaged or unneeded ones."""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from cwpo.errors import InputError, nearest
from cwpo.pipeline.explain import explain
from cwpo.pipeline.graph import KINDS
from cwpo.results import AGAIN, UNREADABLE, ResultsError
from cwpo.store.manifest import StoreError
from cwpo.store.store import Store, entries, remove

DAY = 86400.0  # seconds
# Stages whose results are recorded although no row is named after them or a descendant.
MEASURES = tuple(stage.name for stage in KINDS.values() if stage.measure)


@dataclass(frozen=True)
class Entry:
    """One finished stage: size in bytes, seconds since it was finished (0 for a clock that went back), seconds it took."""

    stage: str
    key: str
    size: int
    age: float
    seconds: float | None

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.key}"


def look_after(cfg: Any) -> None:
    """scripts/store.py: one of ACTIONS. Raises StoreError where verify finds damage."""
    store = Store(cfg.store)
    if not store.root.is_dir():
        raise InputError(
            f"store={cfg.store} does not exist; name the folder that runs used, by default runs/store"
        )
    ACTIONS[cfg.action](store, cfg)


def stages(store: Store) -> Iterator[Entry]:
    """Every stage of the store, those with a damaged manifest included."""
    for stage, key in store.finished():
        try:
            seconds = float(store.recorded(stage, key)["seconds"])
        except StoreError:
            seconds = None
        folder = store.folder(stage, key)
        yield Entry(stage, key, _size(folder), max(0.0, time.time() - folder.lstat().st_mtime), seconds)


def referred_to(results: Path) -> set[str]:
    """The run keys in the result files of all scales. Raises InputError without any result file."""
    files = [file for file in sorted(results.glob("*/[!.]*.csv*")) if file.parent.name != "paper"]
    keys: set[str] = set()
    any_file = False
    for file in files:
        try:
            if "run_key" in pd.read_csv(file, nrows=0).columns:
                keys |= set(pd.read_csv(file, usecols=["run_key"], dtype=str)["run_key"].dropna())
                any_file = True
        except UNREADABLE as error:
            raise ResultsError(f"{file} is empty or damaged, so its run keys are unknown; {AGAIN}") from error
    if not any_file:
        raise InputError(
            f"results={results} holds no result files, so all of the store would count as garbage; name the folder of your "
            "results"
        )
    return keys


def garbage(store: Store, keys: set[str], older_than: float) -> list[Entry]:
    """Stages older than `older_than` seconds that `keys` do not name, nor are measures or ancestors of those they name.

    Raises StoreError for a damaged manifest, whose ancestors are unknown.
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
    files = size = count = 0
    problems = []
    for stage, key in store.finished():
        problems += store.damage(stage, key)
        count += 1
        try:
            written = store.recorded(stage, key)["files"].values()
        except StoreError:
            continue
        files, size = files + len(written), size + sum(entry["bytes"] for entry in written)
    print(f"{count} stages, {files} files, {_bytes(size)} read")
    for left in _left_over(store):
        print(f"left by a killed or live run: {left}; the next run removes it, or action=gc")
    for line in problems:
        print(line)
    if problems:
        raise StoreError(
            f"{len(problems)} files are damaged; python scripts/store.py action=repair deletes their stages, and the runs "
            "that need them compute them again"
        )
    print("all as written")


def _list(store: Store, cfg: Any) -> None:
    everything = list(stages(store))
    named = [entry for entry in everything if _is_named(entry, cfg.stages)]
    if cfg.stages:
        table = Table("stage", "size", "age", "seconds")
        for entry in sorted(named, key=lambda e: (e.stage, e.age)):
            seconds = "damaged" if entry.seconds is None else f"{entry.seconds:.1f}"
            table.add_row(entry.name, _bytes(entry.size), _age(entry.age), seconds)
    else:
        table = Table("stage", "count", "size", "oldest", "newest", "seconds in all")
        groups = defaultdict(list)
        for entry in everything:
            groups[entry.stage].append(entry)
        for stage, group in sorted(groups.items()):
            ages = [entry.age for entry in group]
            took = sum(entry.seconds or 0 for entry in group)
            table.add_row(
                stage,
                str(len(group)),
                _bytes(sum(entry.size for entry in group)),
                _age(max(ages)),
                _age(min(ages)),
                f"{took:.1f}",
            )
    Console().print(table)
    print(
        f"{len(named)} stages, {_bytes(sum(entry.size for entry in named))}; stages=[sft] lists those of a kind"
    )


def _explain(store: Store, cfg: Any) -> None:
    for line in explain(store, list(cfg.overrides)):
        print(line)


def _gc(store: Store, cfg: Any) -> None:
    held = store.held()
    if held:
        raise StoreError(
            f"a run is at work on {', '.join(held)}; wait for it, or stop it, then collect garbage"
        )
    keys = referred_to(Path(cfg.results))
    unneeded = garbage(store, keys, cfg.older_than_days * DAY)
    there = {key for _, key in store.finished()}
    absent = len(keys - there)
    if absent:
        print(f"{absent} of {len(keys)} rows in {cfg.results} are of runs that are not in this store")
    for name, count in sorted(Counter(entry.stage for entry in unneeded).items()):
        print(f"{name}: {count}, {_bytes(sum(entry.size for entry in unneeded if entry.stage == name))}")
    left = _left_over(store)
    for path in left:
        print(f"left over: {path}")
    size = sum(entry.size for entry in unneeded) + sum(map(_size, left))
    if not cfg.delete:
        print(
            f"{len(unneeded)} stages and {len(left)} left-overs, {_bytes(size)}, could go; nothing was deleted: add delete=true"
        )
        return
    for entry in unneeded:
        store.drop(entry.stage, entry.key)
    for path in left:
        remove(path)
    store.forget_locks()
    print(f"deleted {len(unneeded)} stages and {len(left)} left-overs, {_bytes(size)}")


def _repair(store: Store, cfg: Any) -> None:
    _drop_these(store, [(stage, key) for stage, key in store.finished() if store.damage(stage, key)])


def _drop(store: Store, cfg: Any) -> None:
    if not cfg.stages:
        raise InputError(
            "action=drop needs stages=[<stage>/<key>,...]; action=list stages=[<stage>] shows them"
        )
    there = [f"{stage}/{key}" for stage, key in store.finished()]
    unknown = [
        f"stages={name} is not in {store.root}; {_nearest(name, there)}"
        for name in cfg.stages
        if name not in there
    ]
    if unknown:
        raise InputError(unknown)
    _drop_these(store, [tuple(name.split("/")) for name in cfg.stages])


def _drop_these(store: Store, stages: Iterable[tuple[str, str]]) -> None:
    dropped = []
    for stage, key in stages:
        store.drop(stage, key)
        dropped.append(key)
        print(f"deleted {store.folder(stage, key)}")
    print(
        f"{len(dropped)} stages deleted; a run that needs them computes them again, the same bytes on the same machine"
    )


ACTIONS: dict[str, Callable[[Store, Any], None]] = {
    "verify": _verify,
    "list": _list,
    "explain": _explain,
    "gc": _gc,
    "repair": _repair,
    "drop": _drop,
}


def _is_named(entry: Entry, stages: Iterable[str]) -> bool:
    return not stages or entry.stage in stages or entry.name in stages


def _nearest(name: str, there: list[str]) -> str:
    same = [known for known in there if known.startswith(name.partition("/")[0] + "/")]
    return nearest(name, same[:5] or sorted({known.partition("/")[0] for known in there}))


def _left_over(store: Store) -> list[Path]:
    return [path for place in (".partial", ".scratch") for path in entries(store.root / place)]


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(Path(folder, name).lstat().st_size for folder, _, names in os.walk(path) for name in names)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def _age(seconds: float) -> str:
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
