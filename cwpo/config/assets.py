"""Models and data sets of the hub, each at one commit: the lock file, and what a configuration takes from it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from cwpo.config.schema import CONF, MODEL_GOLDS
from cwpo.errors import InputError

LOCK = CONF / "assets.lock.yaml"
KINDS = ("models", "datasets")
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
COMMAND = "python scripts/lock_assets.py"


@dataclass(frozen=True)
class Asset:
    """A model or data set of the hub that the value of `key` names, at the revision of `revision_key` or the lock's."""

    key: str
    revision_key: str | None  # None where the lock alone says it
    kind: str
    id: str
    given: str | None

    @property
    def revision(self) -> str | None:
        """As the configuration says; else as locked; else the branch that the lock looks at."""
        entry = read_lock()[self.kind].get(self.id, {})
        return self.given or entry.get("revision") or entry.get("ref")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which stays what it is."""
        return bool(self.revision and COMMIT.fullmatch(self.revision))

    def problem(self) -> str:
        """What to say of it where it is not pinned."""
        how = f"its revision is {self.given}, which can move" if self.given else "no commit is locked for it"
        own = f" set {self.revision_key}=<40 hex digits>," if self.revision_key else ""
        return (
            f"{self.key}={self.id} is not pinned: {how}, nor is it a folder here; enter its commit into conf/{LOCK.name} with {COMMAND} where there is a "
            f"network,{own} or allow_unpinned=true"
        )


def read_lock(file: Path = LOCK) -> dict[str, dict[str, dict[str, Any]]]:
    """The entries of the lock by kind and id; InputError where the file is not one."""
    return _read(file, file.stat().st_mtime_ns if file.is_file() else 0)


@cache
def _read(file: Path, stamp: int) -> dict[str, dict[str, dict[str, Any]]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    problems = list(_problems(content, file))
    if problems:
        raise InputError(problems)
    return {kind: content.get(kind) or {} for kind in KINDS}


def _problems(content: Any, file: Path) -> Iterator[str]:
    if not isinstance(content, Mapping) or not set(content) <= set(KINDS):
        yield f"{file} is no lock of assets: it must have {' and '.join(KINDS)}, nothing else"
        return
    for kind, entries in content.items():
        for name, entry in (entries or {}).items():
            revision = entry.get("revision") if isinstance(entry, Mapping) else None
            if not isinstance(entry, Mapping) or not set(entry) <= {"ref", "revision"}:
                yield f"{file}: {kind}.{name} must have ref and revision"
            elif revision is not None and not COMMIT.fullmatch(str(revision)):
                yield f"{file}: {kind}.{name}.revision={revision} is no commit of 40 hex digits"


def is_hub_id(path: Any) -> bool:
    """Whether a path names something of the hub: not of the synthetic world, and nothing that is here."""
    return (
        isinstance(path, str)
        and not path.startswith("world/")
        and bool(HUB_ID.fullmatch(path))
        and not Path(path).expanduser().exists()
    )


def hub_assets(cfg: DictConfig) -> list[Asset]:
    """What a run takes from the hub, each key by itself; gold=paper must be settled."""
    named = [
        ("pair.weak", "pair.weak_revision", "models", True),
        ("pair.strong", "pair.strong_revision", "models", True),
        ("gold.path", "gold.revision", "models", cfg.gold.name in (*MODEL_GOLDS, "trained")),
        ("online.reward_model", "online.reward_revision", "models", cfg.online.reward == "reward_model"),
        ("data.path", "data.revision", "datasets", cfg.data.source != "world"),
    ]

    def value(key: str) -> Any:
        group, _, name = key.partition(".")
        return cfg[group][name]

    assets = [
        Asset(key, revision_key, kind, path, value(revision_key))
        for key, revision_key, kind, used in named
        if used and is_hub_id(path := value(key))
    ]
    if cfg.labeled.other and cfg.data.source == "hub":
        path = published_path(cfg.labeled.other)
        if path is not None and path != published_path(
            cfg.data.name
        ):  # else it is taken from where the arm's own data are
            assets.append(Asset("labeled.other", None, "datasets", path, None))
    return assets


def distinct(assets: Iterable[Asset]) -> list[Asset]:
    """Each model or data set once, under the first key that names it."""
    found: dict[tuple[str, str, str | None], Asset] = {}
    for asset in assets:
        found.setdefault((asset.kind, asset.id, asset.revision), asset)
    return list(found.values())


def published_path(name: str) -> str | None:
    """The hub id of a data set of conf/data; None for one that is not there."""
    file = CONF / "data" / f"{name}.yaml"
    if not file.is_file():
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    return content["path"] if is_hub_id(content["path"]) else None


def settled(cfg: DictConfig) -> DictConfig:
    """The configuration with what its choices stand for: the data set's gold model for gold=paper, and locked revisions."""
    changes: dict[str, Any] = {}
    if cfg.gold.name == "paper" and cfg.data.source == "hub" and cfg.data.gold in cfg.reward_models:
        changes = {"gold.name": cfg.data.gold, "gold.path": cfg.reward_models[cfg.data.gold]}
        cfg = _with(cfg, changes)
    revisions = {
        asset.revision_key: asset.revision
        for asset in hub_assets(cfg)
        if asset.given is None and asset.revision is not None and asset.revision_key is not None
    }
    return _with(cfg, revisions) if revisions else cfg


def _with(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    cfg = copy.deepcopy(cfg)
    for key, value in values.items():
        OmegaConf.update(cfg, key, value, force_add=False)
    return cfg
