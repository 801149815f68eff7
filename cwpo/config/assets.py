"""Models and data sets on the hub, each pinned to one commit by conf/assets.lock.yaml."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from cwpo.config.schema import CONF, MODEL_GOLDS, Config
from cwpo.errors import InputError

LOCK = CONF / "assets.lock.yaml"
KINDS = ("models", "datasets")
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
COMMAND = "python scripts/lock_assets.py"
# The key of a model or data set -> the key of its revision. Only the lock has that of labeled.other.
REVISIONS = {
    **{f"pair.{who}": f"pair.{who}_revision" for who in ("weak", "strong")},
    **{f"{group}.path": f"{group}.revision" for group in ("gold", "embedding", "data")},
    "online.reward_model": "online.reward_revision",
}


@dataclass(frozen=True)
class Asset:
    """A model or data set on the hub. `key`: the config key that names it."""

    key: str
    kind: str  # one of KINDS
    id: str
    given: str | None  # the revision in the configuration

    @property
    def revision(self) -> str | None:
        """The revision in the configuration, else the commit in the lock file, else the branch there, else None."""
        return self.given or locked_revision(self.kind, self.id)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never moves."""
        return bool(self.revision and COMMIT.fullmatch(self.revision))

    def problem(self) -> str:
        """Returns the message for an asset that is not pinned."""
        how = f"its revision is {self.given}, which can move" if self.given else "no commit is locked for it"
        fixes = [f"set {REVISIONS[self.key]}=<40 hex digits>"] if self.key in REVISIONS else []
        locked = self.given in (None, locked_revision(self.kind, self.id))
        if locked and self.id in read_lock()[self.kind]:  # COMMAND looks up only what the lock file names
            fixes.insert(0, f"enter its commit into conf/{LOCK.name} with {COMMAND} where there is a network")
        fix = ", ".join([*fixes, "or allow_unpinned=true"])
        return f"{self.key}={self.id} is not pinned: {how}, and there is no such folder here; {fix}"


def read_lock(file: Path = LOCK) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns {kind: {hub id: {"ref": ..., "revision": ...}}} of a lock file. Raises InputError if it is not a lock."""
    return _read(file, file.stat().st_mtime_ns if file.is_file() else 0)


def locked_revision(kind: str, name: str) -> str | None:
    """Returns the commit of the hub id `name` in conf/assets.lock.yaml, else its branch there, else None."""
    entry = read_lock()[kind].get(name, {})
    return entry.get("revision") or entry.get("ref")


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
        yield f"{file} is not a lock of assets: it must have {' and '.join(KINDS)}, nothing else"
        return
    for kind, entries in content.items():
        for name, entry in (entries or {}).items():
            revision = entry.get("revision") if isinstance(entry, Mapping) else None
            if not isinstance(entry, Mapping) or not set(entry) <= {"ref", "revision"}:
                yield f"{file}: {kind}.{name} must have ref and revision"
            elif revision is not None and not COMMIT.fullmatch(str(revision)):
                yield f"{file}: {kind}.{name}.revision={revision} is not a commit of 40 hex digits"


def is_hub_id(path: Any) -> bool:
    """Whether `path` looks like a hub id and is neither a model of the synthetic world nor a local file or folder."""
    return (
        isinstance(path, str)
        and not path.startswith("world/")
        and bool(HUB_ID.fullmatch(path))
        and not Path(path).expanduser().exists()
    )


def named_models(cfg: Config) -> dict[str, tuple[str, str | None]]:
    """Returns {config key: (path, revision)} of the models that a run may load. With gold=paper, pass settled(cfg)."""
    keys = ["pair.weak", "pair.strong"]
    if cfg.gold.name in (*MODEL_GOLDS, "trained"):
        keys.append("gold.path")
    if cfg.online.reward == "reward_model":
        keys.append("online.reward_model")
    if cfg.online.reward != "none":
        keys.append("embedding.path")
    named = {key: attrgetter(key, REVISIONS[key])(cfg) for key in keys}
    return {key: (path, revision) for key, (path, revision) in named.items() if path}


def hub_assets(cfg: Config) -> list[Asset]:
    """Returns the hub's models and data sets that a run may load, one per key. With gold=paper, pass settled(cfg)."""
    named = [(key, "models", *spec) for key, spec in named_models(cfg).items()]
    if cfg.data.source != "world":
        named.append(("data.path", "datasets", cfg.data.path, cfg.data.revision))
    assets = [Asset(key, kind, path, given) for key, kind, path, given in named if is_hub_id(path)]
    if cfg.labeled.other and cfg.data.source == "hub":
        path = published_path(cfg.labeled.other)
        # With the hub id of the arm's own data set, it is read from the same place, which is listed already.
        if path is not None and path != published_path(cfg.data.name):
            assets.append(Asset("labeled.other", "datasets", path, None))
    return assets


def distinct(assets: Iterable[Asset]) -> list[Asset]:
    """Returns each model or data set once, under the first key that names it."""
    by_id: dict[tuple[str, str, str | None], Asset] = {}
    for asset in assets:
        by_id.setdefault((asset.kind, asset.id, asset.revision), asset)
    return list(by_id.values())


def published_path(name: str) -> str | None:
    """Returns the hub id in conf/data/<name>.yaml; None if there is no such file or its `path` is no hub id."""
    file = CONF / "data" / f"{name}.yaml"
    if not file.is_file():
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    return content["path"] if is_hub_id(content["path"]) else None


def settled(cfg: Config) -> Config:
    """Returns `cfg` with gold=paper replaced by the data set's gold model, and missing revisions from the lock file."""
    if cfg.gold.name == "paper" and cfg.data.source == "hub" and cfg.data.gold in cfg.reward_models:
        cfg = _with(_with(cfg, "gold.name", cfg.data.gold), "gold.path", cfg.reward_models[cfg.data.gold])
    for asset in hub_assets(cfg):
        if asset.given is None and asset.revision is not None and asset.key in REVISIONS:
            cfg = _with(cfg, REVISIONS[asset.key], asset.revision)
    return cfg


def _with(cfg: Config, key: str, value: Any) -> Config:
    """Returns a copy in which `key`, of the form group.name, has the given value."""
    group, _, name = key.partition(".")
    return replace(cfg, **{group: replace(getattr(cfg, group), **{name: value})})
