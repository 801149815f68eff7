"""Checks the machine: free disk, credentials (whether they exist, never their values), packages, the hub's cache."""

import os
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from cwpo.checks.checkpoints import unpinned
from cwpo.config.assets import Asset, distinct, hub_assets, settled
from cwpo.config.hub import hub_answers
from cwpo.config.schema import Config
from cwpo.models.folders import repo_files
from cwpo.models.judge import KEY
from cwpo.planning.preflight.found import GATED
from cwpo.tracking import has_wandb_key

GIB = 2**30


def disk_of(path: Path) -> tuple[float, int]:
    """Returns the free GiB of the disk where `path` is or will be, and a number that only this disk has."""
    path = path.expanduser().absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / GIB, path.stat().st_dev


def credential_problems(cfg: Config, assets: list[Asset]) -> list[str]:
    from huggingface_hub import get_token

    problems = []
    closed = sorted({asset.id for asset in assets if asset.id.startswith(GATED) and not in_cache(asset)})
    if closed and not get_token():
        problems.append(
            f"{', '.join(closed)}: the hub asks who you are; accept the licence there, then set HF_TOKEN or run hf auth login"
        )
    if cfg.logger.name == "wandb" and cfg.logger.mode == "online" and not has_wandb_key():
        problems.append(
            "logger.mode=online needs a key of Weights & Biases: set WANDB_API_KEY or run wandb login, or use logger.mode=auto"
        )
    if cfg.gold.name == "openai":
        if not os.environ.get(KEY, "").strip():
            problems.append(f"gold=openai needs a key: set {KEY} (any word for an endpoint that asks for none)")
        if find_spec("openai") is None:
            problems.append("gold=openai needs the package openai; pip install 'cwpo[judge]'")
    return problems


def out_of_reach(arms: Iterable[Config]) -> list[str]:
    """Returns a problem for each model and data set that is not pinned, or not cached while the hub does not answer."""
    arms = [settled(cfg) for cfg in arms]
    problems = list(dict.fromkeys(str(problem) for cfg in arms for problem in unpinned(cfg)))
    assets = distinct(asset for cfg in arms for asset in hub_assets(cfg))
    if problems or not assets or hub_answers():
        return problems
    return [
        f"{asset.key}={asset.id} is not in the cache, and the hub cannot be asked; fetch it where there is a network, or name a folder"
        for asset in assets
        if not in_cache(asset)
    ]


def in_cache(asset: Asset) -> bool:
    """Whether an asset seems cached: a model, if the cache has its config; a data set, if its files can be listed."""
    if asset.kind == "datasets":
        return bool(repo_files(asset.id, asset.revision, "dataset"))
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(asset.id, "config.json", revision=asset.revision), str)
