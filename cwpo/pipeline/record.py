"""Writes the rows of finished arms into results/<scale>/: runs.csv, details.csv, rewards.csv.gz and annotators.csv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.config.schema import POLICY_ANNOTATORS, Config
from cwpo.config.update_sizes import point_of
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
    evaluated = [arm for arm in arms if _ends_in(arm, "evaluate")]
    assessed = [arm for arm in arms if _ends_in(arm, "assess") and not _ends_in(arm, "evaluate")]
    written = []
    if evaluated:
        rows = pd.DataFrame([_run_row(arm, store) for arm in evaluated], columns=RUN_COLUMNS)
        details = pd.DataFrame([_detail_row(arm, store) for arm in evaluated], columns=DETAIL_COLUMNS)
        replace_rows(folder / "runs.csv", rows, RUN_COLUMNS, experiment=replaced)
        replace_rows(folder / "details.csv", details.drop_duplicates("run_key"), DETAIL_COLUMNS)
        _add_rewards(folder / "rewards.csv.gz", evaluated, store)
        prune(folder)
        written += [folder / name for name in ("runs.csv", "details.csv", "rewards.csv.gz")]
    if assessed:
        rows = pd.DataFrame([_annotator_row(arm, store) for arm in assessed], columns=ANNOTATOR_COLUMNS)
        replace_rows(folder / "annotators.csv", rows, ANNOTATOR_COLUMNS, experiment=replaced)
        written.append(folder / "annotators.csv")
    return written + record_excerpts(arms, store, folder, experiment=experiment, whole=whole)


def _ends_in(arm: Arm, name: str) -> bool:
    return any(node.name == name for node in arm.run)


def metrics(node: Node, store: Store) -> dict[str, Any]:
    """metrics.json of a finished stage. Raises StoreError where the stage is damaged."""
    store.manifest(node.stage.name, node.key)
    return json.loads((node.folder(store) / "metrics.json").read_text(encoding="utf-8"))


def _common(arm: Arm) -> dict[str, Any]:
    cfg = arm.cfg
    return {
        "experiment": cfg.name,
        "scale": cfg.scale_name,
        "data": cfg.data.name,
        "weak": cfg.pair.weak,
        "human_fraction": cfg.human_fraction,
        "seed": cfg.seed,
    }


def _run_row(arm: Arm, store: Store) -> dict[str, Any]:
    cfg, nodes = arm.cfg, arm.nodes
    weak_labels = cfg.method.labels == "weak"
    trained = nodes.get("align") or nodes["online_align"]
    align = store.manifest(trained.stage.name, trained.key)
    row = _common(arm) | {
        "strong": cfg.pair.strong,
        "annotator": cfg.annotator.name if weak_labels else None,
        "method": cfg.method.name,
        "objective": cfg.objective.name,
        "weighting": cfg.weighting.name if weak_labels else None,
        "keep_fraction": _keep_fraction(arm, store) if weak_labels else None,
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


def _keep_fraction(arm: Arm, store: Store) -> float:
    selection = arm.cfg.method.selection
    if selection.kind == "top_fraction" and selection.value is not None:
        return float(selection.value)
    selected = store.manifest("select", arm.nodes["select"].key)["summary"]
    return float(selected["selected"] / selected["of"])


def _detail_row(arm: Arm, store: Store) -> dict[str, Any]:
    cfg = arm.cfg
    weak_labels = cfg.method.labels == "weak"
    row = {
        "run_key": arm.nodes["evaluate"].key,
        "data_pairs": cfg.data.pairs,
        "label_flip": cfg.data.label_flip,
        "unlabeled_fraction": cfg.unlabeled_fraction,
        "own_share": cfg.labeled.own_share if weak_labels else None,
        "poison_fraction": cfg.labeled.poison_fraction if weak_labels else None,
        "sft_labels": cfg.method.sft_labels,
        "equal_steps": cfg.method.equal_steps,
        "scoring": _scoring(cfg) if weak_labels else None,
        "learning_rate": cfg.alignment.learning_rate,
        "point": point_of(cfg),
        **metrics(arm.nodes["evaluate"], store),
        **metrics(arm.nodes["divergence"], store),
    }
    return {name: row.get(name) for name in DETAIL_COLUMNS}


def _add_rewards(path: Path, arms: Sequence[Arm], store: Store) -> None:
    """Add the rewards of arms that are new in the file; equal run keys have equal rewards."""
    known = set(read_rows(path, REWARD_COLUMNS)["run_key"]) if path.is_file() else set()
    new = [_rewards(arm, store) for arm in arms if arm.nodes["evaluate"].key not in known]
    if new:
        replace_rows(path, pd.DataFrame(new).drop_duplicates("run_key"), REWARD_COLUMNS)


def _rewards(arm: Arm, store: Store) -> dict[str, str]:
    node = arm.nodes["evaluate"]
    store.manifest(node.stage.name, node.key)
    long = pd.read_parquet(node.folder(store) / "rewards.parquet")
    wide = long.pivot(index="prompt_id", columns="model_tag", values="reward")
    return RunRewards.of(list(wide.index), wide["aligned"], wide["sft"]).row(node.key)


def _scoring(cfg: Config) -> str | None:
    """The scoring rule of an annotator that was trained as a policy; None for the others."""
    return cfg.annotator.scoring if cfg.annotator.name in POLICY_ANNOTATORS else None


def _annotator_row(arm: Arm, store: Store) -> dict[str, Any]:
    trained = store.manifest("train_annotator", arm.nodes["train_annotator"].key)
    row = _common(arm) | {
        "annotator": arm.cfg.annotator.name,
        "own_share": arm.cfg.labeled.own_share,
        "poison_fraction": arm.cfg.labeled.poison_fraction,
        "scoring": _scoring(arm.cfg),
        "train_seconds": trained["summary"]["train_seconds"],
        "run_key": arm.nodes["assess"].key,
        "git_commit": trained["git_commit"],
        **metrics(arm.nodes["assess"], store),
    }
    return {name: row.get(name) for name in ANNOTATOR_COLUMNS}
