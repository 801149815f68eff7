"""Rows beside the tables of means: distributions of confidence, a few responses, a few disputed pairs.

Figure 6 shows responses as points, Figure 7 confidences, Tables 14 and 15 responses, Tables 18 and 19 pairs on which
annotator and human disagree.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cwpo.pipeline.arms import Arm
from cwpo.pipeline.graph import Node
from cwpo.results import (
    CONFIDENCE_COLUMNS,
    DISAGREEMENT_COLUMNS,
    EMBEDDING_COLUMNS,
    POINTS,
    SAMPLE_COLUMNS,
    replace_rows,
    write_rows,
)
from cwpo.store.store import Store

BINS = 20
EXAMPLES = 3  # prompts, or pairs of each band, per data set
UNSURE, SURE = 0.1, 0.9  # the paper's bands of confidence


def record_excerpts(
    arms: Sequence[Arm], store: Store, folder: Path, *, experiment: str, whole: bool
) -> list[Path]:
    """Write the extra rows of an experiment and return the files; `whole` replaces all rows in them."""
    first = min((arm.cfg.seed for arm in arms), default=0)
    tables: list[tuple[str, list[str], list[pd.DataFrame]]] = []
    if experiment == "figure7":
        first_seed = [arm for arm in arms if arm.cfg.seed == first]
        tables = [
            ("confidences.csv", CONFIDENCE_COLUMNS, [confidences(arm, store) for arm in arms]),
            ("disagreements.csv", DISAGREEMENT_COLUMNS, [disagreements(arm, store) for arm in first_seed]),
        ]
    elif experiment == "table1":
        first_seed = [arm for arm in arms if arm.cfg.seed == first and arm.cfg.objective.name == "dpo"]
        tables = [("samples.csv", SAMPLE_COLUMNS, [samples(arm, store) for arm in first_seed])]
    elif experiment == "figure6":
        clouds = [embeddings(arm, store) for arm in arms if any(node.name == "embed" for node in arm.run)]
        distinct = [pd.concat(clouds).drop_duplicates([*POINTS, "pair_id"])] if clouds else []
        tables = [("embeddings.csv", EMBEDDING_COLUMNS, distinct)]
    written = []
    for name, columns, frames in tables:
        if frames:
            write = write_rows if whole else replace_rows
            write(folder / name, pd.concat(frames, ignore_index=True), columns)
            written.append(folder / name)
    return written


def annotated(arm: Arm, store: Store) -> pd.DataFrame:
    """The unlabeled pairs of an arm with the annotator's and the human's labels and the gold rewards."""
    pairs = pd.read_parquet(_file(arm.nodes["prepare"], store, "pairs.parquet"))
    table = pairs[pairs["split"] == "unlabeled"]
    for node, file in (("annotate", "annotations.parquet"), ("score_gold", "gold.parquet")):
        table = table.merge(pd.read_parquet(_file(arm.nodes[node], store, file)), on="pair_id")
    return table


def confidences(arm: Arm, store: Store) -> pd.DataFrame:
    """CONFIDENCE_COLUMNS: pairs per bin of confidence, and how many labels agree with the human's and with gold's."""
    table = annotated(arm, store)
    bins = np.minimum((table["confidence"] * BINS).astype(int), BINS - 1)
    gap = np.where(table["label"] == "a", 1, -1) * (table["gold_a"] - table["gold_b"])
    counted = pd.DataFrame(
        {
            "pairs": np.ones(len(table), dtype=int),
            "agree_human": (table["label"] == table["human_label"]).astype(int),
            "agree_gold": (gap > 0).astype(int),
        }
    )
    rows = counted.groupby(bins.to_numpy()).sum().reindex(range(BINS), fill_value=0).reset_index(drop=True)
    edges = {"low": np.arange(BINS) / BINS, "high": np.arange(1, BINS + 1) / BINS}
    return rows.assign(**_names(arm), annotator=arm.cfg.annotator.name, **edges)


def disagreements(arm: Arm, store: Store) -> pd.DataFrame:
    """DISAGREEMENT_COLUMNS: pairs labeled against the human, the least and the most confident ones."""
    table = annotated(arm, store)
    disputed = table[table["label"] != table["human_label"]].sort_values(["confidence", "pair_id"])
    unsure = disputed[disputed["confidence"] < UNSURE]
    sure = disputed[disputed["confidence"] > SURE]
    bands = {
        "low": unsure if len(unsure) else disputed.head(EXAMPLES),
        "high": sure if len(sure) else disputed.tail(EXAMPLES),
    }
    rows = pd.concat(
        [rows.sort_values("pair_id").head(EXAMPLES).assign(band=band) for band, rows in bands.items()]
    )
    rows = rows.drop_duplicates("pair_id")  # both bands may hold a pair where there are few
    weak_a = (rows["label"] == "a").to_numpy()
    sides = {
        "preferred_by_weak": np.where(weak_a, rows["response_a"], rows["response_b"]),
        "preferred_by_human": np.where(weak_a, rows["response_b"], rows["response_a"]),
        "gold_weak": np.where(weak_a, rows["gold_a"], rows["gold_b"]),
        "gold_human": np.where(weak_a, rows["gold_b"], rows["gold_a"]),
    }
    return rows.assign(**_names(arm), **sides)


def samples(arm: Arm, store: Store) -> pd.DataFrame:
    """SAMPLE_COLUMNS: responses of the SFT and the aligned model to the first test prompts."""
    nodes = arm.nodes
    rewards = pd.read_parquet(_file(nodes["evaluate"], store, "rewards.parquet"))
    responses = {
        tag: pd.read_parquet(_file(nodes[node], store, "responses.parquet")).merge(
            rewards.loc[rewards["model_tag"] == tag, ["prompt_id", "reward"]], on="prompt_id"
        )
        for node, tag in (("generate", "aligned"), ("generate_sft", "sft"))
    }
    table = responses["aligned"].merge(
        responses["sft"][["prompt_id", "response", "reward"]], on="prompt_id", suffixes=("", "_sft")
    )
    cfg = arm.cfg
    return (
        table.sort_values("prompt_id")
        .head(EXAMPLES)
        .assign(
            run_key=nodes["evaluate"].key,
            data=cfg.data.name,
            strong=cfg.pair.strong,
            method=cfg.method.name,
            seed=cfg.seed,
        )
    )


def embeddings(arm: Arm, store: Store) -> pd.DataFrame:
    """EMBEDDING_COLUMNS of an online arm. Its source is the method; labeled and offline points are the same in all."""
    cfg = arm.cfg
    table = pd.read_parquet(_file(arm.nodes["embed"], store, "embeddings.parquet"))
    return table.assign(
        source=table["source"].replace("online", cfg.method.name),
        data=cfg.data.name,
        strong=cfg.pair.strong,
        seed=cfg.seed,
    )


def _names(arm: Arm) -> dict[str, object]:
    cfg = arm.cfg
    return {
        "run_key": arm.nodes["assess"].key,
        "data": cfg.data.name,
        "weak": cfg.pair.weak,
        "seed": cfg.seed,
    }


def _file(node: Node, store: Store, name: str) -> Path:
    store.manifest(node.stage.name, node.key)  # raises StoreError where the stage is damaged
    return node.folder(store) / name
