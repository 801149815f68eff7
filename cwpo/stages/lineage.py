"""Where a stage's parents come from, read back from the store's manifests: for the card of an aligned model."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cwpo.data.chat import read_as
from cwpo.store.store import MANIFEST


def lineage(parents: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """The manifests of the parents' stages and of all before them by stage name, the nearest where there are several."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(parents)
    while waiting:
        folder = waiting.pop(0)
        if not (folder / MANIFEST).is_file():  # a pretrained checkpoint
            continue
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found.setdefault(manifest["stage"], manifest)
        store = folder.parent.parent
        waiting += [path for key in manifest["parents"].values() for path in sorted(store.glob(f"*/{key}"))]
    return found


def arm_facts(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Data, annotator, labels and weights of an arm, as far as its manifests tell."""
    config = {stage: manifest["config"] for stage, manifest in manifests.items()}
    facts: dict[str, Any] = {}
    if "prepare" in config:
        data = config["prepare"]["data"]
        facts["data"] = f"{data['name']} ({data['source']}), seed {config['prepare']['seed']}"
        facts["share of human labels used"] = config["prepare"]["human_fraction"]
    if "train_annotator" in config:
        made = config["train_annotator"]
        facts["annotator"] = f"{made['annotator']['name']} on {made['weak']}"
    if "select" in config:
        method = config["select"]["method"]
        kept = method["selection"]
        chosen = "all" if kept["kind"] == "all" else f"{kept['kind']} {kept['value']}"
        facts["labels, pairs"] = f"{method['labels']}, {method['pairs']}, {chosen}"
    if config.get("sft", {}).get("text_version") is not None:
        facts["prompts"] = read_as(config["sft"].get("strong_chat"))
    if "weight" in config:
        facts["weights"] = config["weight"]["weighting"]["name"]
    return facts
