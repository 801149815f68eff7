"""Folders of checkpoints, looked at from outside: no weights are loaded, and torch is not imported."""

from __future__ import annotations

import json
import re
from pathlib import Path

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
ADAPTER = "adapter_config.json"
BASE = "base.json"  # beside adapters that were trained here: the model under them; see cwpo.models.adapters
TENSORS = "adapter_model.safetensors"


def checkpoint_problem(path: str, key: str, adapters: bool = False) -> str | None:
    """Why `path` cannot be loaded as a checkpoint, or None. Loads nothing; a hub id is asked for its config only.

    adapters: those that were trained here will do too.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            return f"{key}={path} is not a checkpoint: it has no config.json; name a folder written by save_pretrained"
        if (folder / ADAPTER).is_file() and not (adapters and (folder / BASE).is_file()):
            return (
                f"{key}={path} holds a LoRA adapter ({ADAPTER}), which names a model elsewhere to load; merge it first "
                "(model.merge_and_unload().save_pretrained(folder), or cwpo.models.policy.export) and name that folder"
            )
        if not any(folder.glob("*.safetensors")):
            pickles = sorted(
                p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
            )
            if pickles:
                return (
                    f"{key}={path} has only pickle weights ({', '.join(pickles[:3])}), which can run code when loaded; "
                    "convert it with model.save_pretrained(folder), which writes safetensors"
                )
            return f"{key}={path} has a config.json but no *.safetensors weights"
        if strange := strange_shards(folder):
            return f"{key}={path}: {strange}"
        if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
            return f"{key}={path} has no tokenizer; save one there with tokenizer.save_pretrained(folder)"
        return None
    if folder.exists():
        return f"{key}={path} is a file; name the folder of the checkpoint"
    if path.startswith((".", "/", "~")) or not HUB_ID.fullmatch(path):
        return f"{key}={path} does not exist; name a checkpoint folder, or a hub id such as facebook/opt-125m"
    return None


def strange_shards(folder: Path) -> str | None:
    """What is wrong with the list of a folder's weight files, if it has one: transformers would read any file that it names."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return f"{index.name} is no list of weight files; save the model again with save_pretrained"
        wrong = [str(name) for name in named if not re.fullmatch(r"[\w.-]+\.safetensors", str(name))]
        if wrong and index.name.endswith(".safetensors.index.json"):
            return f"{index.name} names {sorted(wrong)[0]}, which is no .safetensors file in that folder, and only these are read"
    return None
