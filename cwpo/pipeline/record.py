"""Writes the rows of finished arms into results/<scale>/: runs.csv, details.csv, rewards/ and annotators.csv."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.config.schema import POLICY_ANNOTATORS
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
    give_way,
    prune,
    read_rows,
    replace_rows,
    rewards_file,
)
from cwpo.store.store import Store

OTHER = "the file's numbers for these arms are from another machine or version; the experiment's old rows are deleted"


def record(arms: Sequence[Arm], store: Store, results: Path, *, experiment: str, whole: bool) -> list[Path]:
    """Writes the rows of finished arms of one experiment and scale. Returns the paths of the files written.

    All old rows of the experiment are dropped if `whole` is set, or if an arm's old row has other numbers than its new
    row. Arms that run neither `assess` nor `evaluate` have no row.
    """
    if not arms:
        return []
    folder = results / arms[0].cfg.scale_name
    replaced = experiment if whole else None
    evaluated = [arm for arm in arms if arm.runs("evaluate")]
    assessed = [arm for arm in arms if arm.runs("assess") and not arm.runs("evaluate")]
    written = []
    if evaluated:
        rows = [_run_row(arm, store) for arm in evaluated]
        runs = _table(rows, RUN_COLUMNS)
        if give_way(folder / "runs.csv", runs, RUN_COLUMNS, ("reward_mean", "reward_sft_mean")):
            print(f"{experiment}: {OTHER} ({folder / 'runs.csv'})")
            prune(folder)
            whole = True
        replace_rows(folder / "runs.csv", runs, RUN_COLUMNS, experiment=replaced)
        replace_rows(folder / "details.csv", _table(rows, DETAIL_COLUMNS), DETAIL_COLUMNS)
        rewards = rewards_file(folder, experiment)
        _add_rewards(rewards, evaluated, rows, store)
        prune(folder)
        written += [folder / "runs.csv", folder / "details.csv", rewards]
    if assessed:
        table = _table([_annotator_row(arm, store) for arm in assessed], ANNOTATOR_COLUMNS)
        if give_way(folder / "annotators.csv", table, ANNOTATOR_COLUMNS, ("accuracy_human",)):
            print(f"{experiment}: {OTHER} ({folder / 'annotators.csv'})")
            whole = True
        replace_rows(folder / "annotators.csv", table, ANNOTATOR_COLUMNS, experiment=replaced)
        written.append(folder / "annotators.csv")
    return written + record_excerpts(arms, store, folder, experiment=experiment, whole=whole)


def recorded(results: Path, scale: str, experiment: str) -> pd.DataFrame:
    """Returns the columns seed and run_key of the experiment's rows in runs.csv and annotators.csv; may be empty."""
    files = (("runs.csv", RUN_COLUMNS), ("annotators.csv", ANNOTATOR_COLUMNS))
    there = [(results / scale / name, columns) for name, columns in files if (results / scale / name).is_file()]
    tables = [read_rows(path, columns) for path, columns in there]
    rows = [table.loc[table["experiment"] == experiment, ["seed", "run_key"]] for table in tables]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["seed", "run_key"])


def _table(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([{name: row.get(name) for name in columns} for row in rows], columns=columns)


def metrics(node: Node, store: Store) -> dict[str, Any]:
    """Returns the content of a finished stage's metrics.json. Raises StoreError if the stage is damaged."""
    return json.loads(node.file(store, "metrics.json").read_text(encoding="utf-8"))


def _settings(arm: Arm, annotated: bool) -> dict[str, Any]:
    """Returns {column: value} of the settings of an arm in result files; those of its annotator only if `annotated`."""
    cfg = arm.cfg
    of_annotator = {
        "annotator": cfg.annotator.name,
        "scoring": cfg.annotator.scoring if cfg.annotator.name in POLICY_ANNOTATORS else None,
        "own_share": cfg.labeled.own_share,
        "poison_fraction": cfg.labeled.poison_fraction,
        "weighting": cfg.weighting.name,
    }
    return (of_annotator if annotated else {}) | {
        "experiment": cfg.name,
        "scale": cfg.scale_name,
        "data": cfg.data.name,
        "weak": cfg.pair.weak,
        "strong": cfg.pair.strong,
        "method": cfg.method.name,
        "objective": cfg.objective.name,
        "human_fraction": cfg.human_fraction,
        "seed": cfg.seed,
        "data_pairs": cfg.data.pairs,
        "label_flip": cfg.data.label_flip,
        "unlabeled_fraction": cfg.unlabeled_fraction,
        "sft_labels": cfg.method.sft_labels,
        "equal_steps": cfg.method.equal_steps,
        "threshold": cfg.method.selection.value if cfg.method.selection.kind == "threshold" else None,
        "learning_rate": cfg.alignment.learning_rate,
        "point": point_of(cfg),
    }


def _trained(node: Node, store: Store) -> dict[str, Any]:
    manifest = store.manifest(node.stage.name, node.key)
    return {"train_seconds": manifest["summary"]["train_seconds"], "git_commit": manifest["git_commit"]}


def _run_row(arm: Arm, store: Store) -> dict[str, Any]:
    """Returns {column: value} of an arm for runs.csv and details.csv together."""
    nodes, weak_labels = arm.nodes, arm.cfg.method.labels == "weak"
    row = _settings(arm, annotated=weak_labels) | {"run_key": nodes["evaluate"].key}
    row |= _trained(nodes.get("align") or nodes["online_align"], store)
    row |= metrics(nodes["evaluate"], store) | metrics(nodes["divergence"], store)
    if weak_labels:
        assessed = metrics(nodes["assess"], store)
        row["annotator_accuracy_human"] = assessed["accuracy_human"]
        row["annotator_accuracy_gold"] = assessed["accuracy_gold"]
        row["keep_fraction"] = _keep_fraction(arm, store)
        row["annotator_seconds"] = _trained(nodes["train_annotator"], store)["train_seconds"]
    return row


def _annotator_row(arm: Arm, store: Store) -> dict[str, Any]:
    row = _settings(arm, annotated=True) | {"run_key": arm.nodes["assess"].key}
    return row | _trained(arm.nodes["train_annotator"], store) | metrics(arm.nodes["assess"], store)


def _keep_fraction(arm: Arm, store: Store) -> float:
    selection = arm.cfg.method.selection
    if selection.kind == "top_fraction" and selection.value is not None:
        return float(selection.value)
    selected = arm.nodes["select"].summary(store)
    return float(selected["selected"] / selected["of"])


def _add_rewards(path: Path, arms: Sequence[Arm], rows: Sequence[Mapping[str, Any]], store: Store) -> None:
    """Writes each arm's rewards to the file `path`, unless they are there with the mean reward and KL of `rows`."""
    there = read_rows(path, REWARD_COLUMNS).to_dict("records") if path.is_file() else []
    known = {row["run_key"]: RunRewards.parse(row) for row in there}
    new = [
        _rewards(arm, store)
        for arm, row in zip(arms, rows, strict=True)
        if (run := known.get(row["run_key"])) is None
        or not (run.has_mean(row["reward_mean"]) and run.has_mean_kl(row["kl"]))
    ]
    if new:
        replace_rows(path, pd.DataFrame(new), REWARD_COLUMNS)


def _rewards(arm: Arm, store: Store) -> dict[str, str | None]:
    node = arm.nodes["evaluate"]
    long = pd.read_parquet(node.file(store, "rewards.parquet"))
    wide = long.pivot(index="prompt_id", columns="model_tag", values="reward")
    moved = pd.read_parquet(arm.nodes["divergence"].file(store, "kl.parquet")).set_index("prompt_id")
    kl = moved["kl"].loc[wide.index]  # a judge may have left prompts out
    return RunRewards.of(list(wide.index), wide["aligned"], wide["sft"], kl).row(node.key)
