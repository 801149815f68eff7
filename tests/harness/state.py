"""What a store and its results hold, for comparison; and what the fault tests counted, for the summary."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd

from cwpo.store.store import Store

OF_THE_MACHINE = ["train_seconds", "annotator_seconds", "git_commit"]
COUNTS: list[str] = []  # printed at the end of the session


def store_of(folder: Path) -> Store:
    return Store(folder / "runs" / "store")


def outputs(store: Store) -> dict[str, str]:
    """stage/key/file -> sha256, from the manifests."""
    return {
        f"{stage}/{key}/{name}": entry["sha256"]
        for stage, key in store.finished()
        for name, entry in store.recorded(stage, key)["files"].items()
    }


def rows(folder: Path) -> dict[str, bytes]:
    """Every result file of `folder`, without the columns that are facts about the machine."""
    found = {}
    results = folder / "results" / "toy"
    for file in sorted([*results.glob("[!.]*.csv"), *results.glob("rewards/[!.]*.csv.gz")]):
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        frame = pd.read_csv(io.BytesIO(data), dtype=str)
        kept = frame.drop(columns=[name for name in OF_THE_MACHINE if name in frame])
        found[file.name] = kept.to_csv(index=False).encode()
    return found


def identities(store: Store) -> dict[str, tuple[int, int, int]]:
    """stage/key -> what changes when a finished stage is written again, even with the same bytes."""
    found = {}
    for manifest in store.root.glob("[!.]*/[!.]*/manifest.json"):
        there = manifest.stat()
        name = f"{manifest.parent.parent.name}/{manifest.parent.name}"
        found[name] = (manifest.parent.stat().st_ino, there.st_ino, there.st_mtime_ns)
    return found


def left_over(folder: Path) -> list[str]:
    """Temporary files and folders of store and results."""
    store = store_of(folder).root
    found = [*(store / ".partial").glob("*"), *(store / ".scratch").glob("*")]
    found += [*(folder / "results").rglob(".*.partial"), *(folder / "results").rglob(".*.csv.[0-9]*")]
    return [str(path.relative_to(folder)) for path in found]
