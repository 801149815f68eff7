"""Checks checkpoints, in a folder or on the hub, by their files alone: loads no weights and does not import torch."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from cwpo.config.assets import HUB_ID
from cwpo.config.hub import asked_once

ADAPTER = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
BASE = "base.json"  # the file that names the base model of adapters trained by cwpo; see cwpo.models.adapters
WEIGHTS = "model.safetensors"
TENSORS = "adapter_model.safetensors"


def checkpoint_problem(path: str, key: str, adapters: bool = False) -> str | None:
    """Returns why `path` (config key: `key`) is no usable checkpoint. None: it is one, or it looks like a hub id.

    `adapters`: whether a folder of LoRA adapters that cwpo trained is accepted too.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _folder_problem(folder, f"{key}={path}", adapters)
    if folder.exists():
        return f"{key}={path} is a file; name the folder of the checkpoint"
    if path.startswith((".", "/", "~")) or not HUB_ID.fullmatch(path):
        return f"{key}={path} does not exist; name a checkpoint folder, or a hub id such as facebook/opt-125m"
    return None


def _folder_problem(folder: Path, at: str, adapters: bool) -> str | None:
    files = {file.name for file in folder.iterdir()}
    if "config.json" not in files:
        return f"{at} is not a checkpoint: it has no config.json; name a folder written by save_pretrained"
    if ADAPTER in files and not (adapters and BASE in files):
        return (
            f"{at} holds a LoRA adapter ({ADAPTER}), which names a model elsewhere to load; merge it first "
            "(model.merge_and_unload().save_pretrained(folder), or cwpo.models.policy.export) and name that folder"
        )
    if files.isdisjoint({WEIGHTS, f"{WEIGHTS}.index.json", TENSORS}):
        fix = "convert it with model.save_pretrained(folder), which writes safetensors"
        return (
            _only_pickles(files, at, fix)
            or f"{at} has a config.json but no *.safetensors weights: no {WEIGHTS}, no {WEIGHTS}.index.json"
        )
    if strange := strange_shards(folder):
        return f"{at}: {strange}"
    if files.isdisjoint({"tokenizer_config.json", "tokenizer.json"}):
        return f"{at} has no tokenizer; save one there with tokenizer.save_pretrained(folder)"
    return None


def _only_pickles(files: Iterable[str], at: str, fix: str) -> str | None:
    """Returns "<at> has only pickle weights ...; <fix>" if a checkpoint without safetensors has pickles, else None."""
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    shown = ", ".join(pickles[:3])
    return f"{at} has only pickle weights ({shown}), which can run code when loaded; {fix}" if pickles else None


def strange_shards(folder: Path) -> str | None:
    """Returns what is wrong with an index of weight files (*.index.json) in `folder`, or None.

    Every index must be readable. An index of safetensors must name only .safetensors files. All of them must be in
    `folder`, unless model.safetensors is there.
    """
    for index in sorted(folder.glob("*.index.json")):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return f"{index.name} is no list of weight files; save the model again with save_pretrained"
        wrong = [str(name) for name in named if not re.fullmatch(r"[\w.-]+\.safetensors", str(name))]
        if not index.name.endswith(".safetensors.index.json"):
            continue
        if wrong:
            return f"{index.name} names {sorted(wrong)[0]}, which is no .safetensors file in that folder, and only these are read"
        absent = sorted(name for name in named if not (folder / name).is_file())
        if absent and not (folder / WEIGHTS).is_file():
            return f"{index.name} names {absent[0]}, which is not there ({len(absent)} of {len(named)} files); copy it again"
    return None


@asked_once
def repo_files(path: str, revision: str | None, kind: str = "model") -> tuple[str, ...] | None:
    """Returns a hub repository's file names (offline: those cached); None on any error. `kind`: model or dataset."""
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        if not constants.is_offline_mode():
            return tuple(HfApi().list_repo_files(path, repo_type=kind, revision=revision))
        folder = Path(snapshot_download(path, repo_type=kind, revision=revision, local_files_only=True))
    except Exception:  # the hub client raises many kinds of error; read_config reports them
        return None
    return tuple(sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()))


def hub_weights_problem(path: str, revision: str | None, key: str) -> str | None:
    """Returns why a hub model's weights cannot be loaded, or None if they can or the repository's files are unknown."""
    files = repo_files(path, revision)
    if files and ADAPTER in files:
        return f"{key}={path} holds a LoRA adapter ({ADAPTER}); merge it and save the whole model"
    if files is None or any(name.endswith(".safetensors") for name in files):
        return None
    at = f"{key}={path} at revision {revision or 'main'}"
    fix = (
        "set its revision to the commit of the hub's own conversion to safetensors, a pull request, if there is one; "
        "python scripts/lock_assets.py finds it for the models that conf/ names"
    )
    missing = f"{at} has no *.safetensors weights, or the cache has only part of it; fetch the whole revision"
    return _only_pickles(files, at, fix) or missing
