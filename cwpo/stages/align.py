"""Aligns the strong model by weighted preference optimisation, starting from its SFT model (Eq. 8 to 11)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cwpo.data.chat import read_as
from cwpo.stages.base import Stage, Work
from cwpo.store.store import MANIFEST

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "chosen_logp", "rejected_logp"]


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.card import training_metrics, write_card
    from cwpo.training.fit import Start, fit_preference

    config = work.config
    logps = work.table("reference", "reference.parquet")
    table = work.table("weight", "preferences.parquet").merge(logps, on="pair_id", validate="one_to_one")
    fitted = fit_preference(
        work.site(),
        table[COLUMNS].to_dict("records"),
        start=Start(work.parents["sft"] / "model"),
        training=config.alignment,
        lora=config.lora,
        seed=config.seed,
        **objective_of(config.objective),
    )
    if not work.first:
        return fitted.summary
    manifests = lineage(work.parents.values())
    base = manifests["sft"]["config"]["strong"] if "sft" in manifests else None
    objective = f"{config.objective.name}, beta {config.objective.beta}, {config.alignment.epochs} epochs"
    facts = arm_facts(manifests) | {"objective": objective, "seed": config.seed}
    metrics = {"pairs": len(table), "mean weight": round(float(table["weight"].mean()), 4)}
    write_card(work.out / "model", base, facts, metrics | training_metrics(fitted.curve))
    return fitted.summary


def objective_of(objective: Any) -> dict[str, Any]:
    """Returns the objective's settings as keyword arguments of the preference trainers."""
    names = ("beta", "flip_rate", "average_logps")
    return {"objective": objective.name, **{name: objective[name] for name in names}}


def lineage(parents: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Returns {stage name: manifest} of the folders `parents` and all their ancestors.

    Of several folders of the same stage, the nearest counts.
    """
    manifests: dict[str, dict[str, Any]] = {}
    waiting = list(parents)
    while waiting:
        folder = waiting.pop(0)
        if not (folder / MANIFEST).is_file():  # a pretrained checkpoint has none
            continue
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifests.setdefault(manifest["stage"], manifest)
        store = folder.parent.parent
        waiting += [path for key in manifest["parents"].values() for path in sorted(store.glob(f"*/{key}"))]
    return manifests


def arm_facts(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns {fact: value} for an arm's model card: data, annotator, labels, weights, as far as `manifests` say."""
    config = {stage: manifest["config"] for stage, manifest in manifests.items()}
    facts: dict[str, Any] = {}
    if "prepare" in config:
        data = config["prepare"]["data"]
        facts["data"] = f"{data['name']} ({data['source']}), seed {config['prepare']['seed']}"
        facts["labeled share of the training pairs"] = config["prepare"]["human_fraction"]
    if "train_annotator" in config:
        trained = config["train_annotator"]
        facts["annotator"] = f"{trained['annotator']['name']} on {trained['weak']}"
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


READS = ("alignment", "objective", "lora", "seed", "text_version")
ALIGN = Stage("align", 1, READS, run, launched=True, trains="strong")
