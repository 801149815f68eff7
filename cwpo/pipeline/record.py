"""From finished stages to rows of results/<scale>/: runs.csv, details.csv, rewards.csv.gz and annotators.csv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from cwpo.config.schema import POLICY_ANNOTATORS
from cwpo.pipeline.arms import Arm
from cwpo.pipeline.excerpts import record_excerpts
from cwpo.pipeline.graph import Node
from cwpo.results import (
    ANNOTATOR_COLUMNS,
    DETAIL_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    RunRewards,
    prune,
    read_rows,
    replace_rows,
)
from cwpo.store.store import Store


def record(arms: Sequence[Arm], store: Store, results: Path, *, experiment: str, whole: bool) -> list[Path]:
    """Write the rows of finished arms of one experiment and scale; `whole` replaces all of the experiment's rows.

    Returns the files written. Arms that stop before `assess` or `evaluate` have no row.
    """
    if not arms:
        return []
    folder = results / arms[0].cfg.scale_name
    replaced = experiment if whole else None
    evaluated = [made for made in arms if _ends_in(made, "evaluate")]
    assessed = [made for made in arms if _ends_in(made, "assess") and not _ends_in(made, "evaluate")]
    written = []
    if evaluated:
        rows = pd.DataFrame([_run_row(made, store) for made in evaluated], columns=RUN_COLUMNS)
        details = pd.DataFrame([_detail_row(made, store) for made in evaluated], columns=DETAIL_COLUMNS)
        replace_rows(folder / "runs.csv", rows, RUN_COLUMNS, experiment=replaced)
        replace_rows(folder / "details.csv", details.drop_duplicates("run_key"), DETAIL_COLUMNS)
        _add_rewards(folder / "rewards.csv.gz", evaluated, store)
        prune(folder)
        written += [folder / name for name in ("runs.csv", "details.csv", "rewards.csv.gz")]
    if assessed:
        rows = pd.DataFrame([_annotator_row(made, store) for made in assessed], columns=ANNOTATOR_COLUMNS)
        replace_rows(folder / "annotators.csv", rows, ANNOTATOR_COLUMNS, experiment=replaced)
        written.append(folder / "annotators.csv")
    return written + record_excerpts(arms, store, folder, experiment=experiment, whole=whole)


def _ends_in(made: Arm, name: str) -> bool:
    return any(node.name == name for node in made.run)


def metrics(node: Node, store: Store) -> dict[str, Any]:
    """metrics.json of a finished stage. Raises StoreError where the stage is damaged."""
    store.manifest(node.stage.name, node.key)
    return json.loads((node.folder(store) / "metrics.json").read_text(encoding="utf-8"))


def _common(made: Arm) -> dict[str, Any]:
    cfg = made.cfg
    return {
        "experiment": cfg.name,
        "scale": cfg.scale_name,
        "data": cfg.data.name,
        "weak": cfg.pair.weak,
        "human_fraction": cfg.human_fraction,
        "seed": cfg.seed,
    }


def _run_row(made: Arm, store: Store) -> dict[str, Any]:
    cfg, nodes = made.cfg, made.nodes
    weak_labels = cfg.method.labels == "weak"
    trained = nodes.get("align") or nodes["online_align"]
    align = store.manifest(trained.stage.name, trained.key)
    row = _common(made) | {
        "strong": cfg.pair.strong,
        "annotator": cfg.annotator.name if weak_labels else None,
        "method": cfg.method.name,
        "objective": cfg.objective.name,
        "weighting": cfg.weighting.name if weak_labels else None,
        "keep_fraction": _keep_fraction(made, store) if weak_labels else None,
        "train_seconds": align["summary"]["train_seconds"],
        "run_key": nodes["evaluate"].key,
        "git_commit": align["git_commit"],
        **metrics(nodes["evaluate"], store),
    }
    if weak_labels:
        assessed = metrics(nodes["assess"], store)
        row["annotator_accuracy_human"] = assessed["accuracy_human"]
        row["annotator_accuracy_gold"] = assessed["accuracy_gold"]
    return {name: row.get(name) for name in RUN_COLUMNS}


def _keep_fraction(made: Arm, store: Store) -> float:
    selection = made.cfg.method.selection
    if selection.kind == "top_fraction":
        return float(selection.value)
    selected = store.manifest("select", made.nodes["select"].key)["summary"]
    return float(selected["selected"] / selected["of"])


def _detail_row(made: Arm, store: Store) -> dict[str, Any]:
    cfg = made.cfg
    weak_labels = cfg.method.labels == "weak"
    row = {
        "run_key": made.nodes["evaluate"].key,
        "data_pairs": cfg.data.pairs,
        "label_flip": cfg.data.label_flip,
        "unlabeled_fraction": cfg.unlabeled_fraction,
        "own_share": cfg.labeled.own_share if weak_labels else None,
        "poison_fraction": cfg.labeled.poison_fraction if weak_labels else None,
        "sft_labels": cfg.method.sft_labels,
        "equal_steps": cfg.method.equal_steps,
        "scoring": _scoring(cfg) if weak_labels else None,
        "learning_rate": cfg.alignment.learning_rate,
        **metrics(made.nodes["evaluate"], store),
    }
    return {name: row.get(name) for name in DETAIL_COLUMNS}


def _add_rewards(path: Path, arms: Sequence[Arm], store: Store) -> None:
    """Enter the rewards of arms the file does not have yet: equal run keys have equal rewards."""
    known = set(read_rows(path, REWARD_COLUMNS)["run_key"]) if path.is_file() else set()
    new = [_rewards(made, store) for made in arms if made.nodes["evaluate"].key not in known]
    if new:
        replace_rows(path, pd.DataFrame(new).drop_duplicates("run_key"), REWARD_COLUMNS)


def _rewards(made: Arm, store: Store) -> dict[str, str]:
    node = made.nodes["evaluate"]
    store.manifest(node.stage.name, node.key)
    long = pd.read_parquet(node.folder(store) / "rewards.parquet")
    wide = long.pivot(index="prompt_id", columns="model_tag", values="reward")
    return RunRewards.of(list(wide.index), wide["aligned"], wide["sft"]).row(node.key)


def _scoring(cfg: DictConfig) -> str | None:
    """The rule by which an annotator trained as a policy was read; None for the others."""
    return cfg.annotator.scoring if cfg.annotator.name in POLICY_ANNOTATORS else None


def _annotator_row(made: Arm, store: Store) -> dict[str, Any]:
    trained = store.manifest("train_annotator", made.nodes["train_annotator"].key)
    row = _common(made) | {
        "annotator": made.cfg.annotator.name,
        "own_share": made.cfg.labeled.own_share,
        "poison_fraction": made.cfg.labeled.poison_fraction,
        "scoring": _scoring(made.cfg),
        "train_seconds": trained["summary"]["train_seconds"],
        "run_key": made.nodes["assess"].key,
        "git_commit": trained["git_commit"],
        **metrics(made.nodes["assess"], store),
    }
    return {name: row.get(name) for name in ANNOTATOR_COLUMNS}
