"""Writes responses (Figure 6, Tables 14, 15), confidences (Figure 7) and disputed pairs (Tables 18, 19) to results/."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cwpo.pipeline.arms import Arm
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

BINS = 20  # equal bins of confidence, from 0 to 1
EXAMPLES = 3  # prompts of an arm, or pairs in each of its bands, that are shown
UNSURE, SURE = 0.1, 0.9  # as in the paper, confidence below UNSURE is the band "low", above SURE the band "high"


def record_excerpts(arms: Sequence[Arm], store: Store, folder: Path, *, experiment: str, whole: bool) -> list[Path]:
    """Writes the experiment's files, see EXCERPTS; returns their paths. If `whole`, they keep no rows of other arms."""
    first = min((arm.cfg.seed for arm in arms), default=0)
    written = []
    for name, columns, rows_of, wanted in EXCERPTS.get(experiment, ()):
        frames = [rows_of(arm, store) for arm in arms if wanted(arm, first)]
        if frames:
            rows = pd.concat(frames, ignore_index=True)
            if "run_key" not in columns:  # several arms may give the same row
                rows = rows.drop_duplicates([*POINTS, "pair_id"])
            (write_rows if whole else replace_rows)(folder / name, rows, columns)
            written.append(folder / name)
    return written


def _names(arm: Arm) -> dict[str, object]:
    cfg = arm.cfg
    return {"data": cfg.data.name, "weak": cfg.pair.weak, "strong": cfg.pair.strong, "seed": cfg.seed}


def annotated(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns an arm's unlabeled pairs with the annotator's labels and confidences, human labels and gold rewards."""
    pairs = pd.read_parquet(arm.nodes["prepare"].file(store, "pairs.parquet"))
    table = pairs[pairs["split"] == "unlabeled"]
    for node, file in (("annotate", "annotations.parquet"), ("score_gold", "gold.parquet")):
        table = table.merge(pd.read_parquet(arm.nodes[node].file(store, file)), on="pair_id")
    return table


def confidences(arm: Arm, store: Store) -> pd.DataFrame:
    """Counts the pairs in each bin of confidence, as rows of CONFIDENCE_COLUMNS.

    agree_human and agree_gold: how many annotator labels agree with the human label, and with the gold label.
    """
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
    return rows.assign(**_names(arm), run_key=arm.nodes["assess"].key, annotator=arm.cfg.annotator.name, **edges)


def disagreements(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns rows of DISAGREEMENT_COLUMNS: some pairs on which the annotator's label differs from the human label.

    Takes up to EXAMPLES pairs from each band of confidence, "low" and "high"; for an empty band, the nearest pairs.
    """
    table = annotated(arm, store)
    disputed = table[table["label"] != table["human_label"]].sort_values(["confidence", "pair_id"])
    unsure = disputed[disputed["confidence"] < UNSURE]
    sure = disputed[disputed["confidence"] > SURE]
    bands = {
        "low": unsure if len(unsure) else disputed.head(EXAMPLES),
        "high": sure if len(sure) else disputed.tail(EXAMPLES),
    }
    first = (rows.sort_values("pair_id").head(EXAMPLES).assign(band=band) for band, rows in bands.items())
    rows = pd.concat(first).drop_duplicates("pair_id")  # with few pairs both bands may hold the same one
    weak_a = (rows["label"] == "a").to_numpy()
    sides = {
        "preferred_by_weak": np.where(weak_a, rows["response_a"], rows["response_b"]),
        "preferred_by_human": np.where(weak_a, rows["response_b"], rows["response_a"]),
        "gold_weak": np.where(weak_a, rows["gold_a"], rows["gold_b"]),
        "gold_human": np.where(weak_a, rows["gold_b"], rows["gold_a"]),
    }
    return rows.assign(**_names(arm), run_key=arm.nodes["assess"].key, **sides)


def samples(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns rows of SAMPLE_COLUMNS: responses of SFT and aligned model to the first EXAMPLES test prompts by id."""
    nodes = arm.nodes
    rewards = pd.read_parquet(nodes["evaluate"].file(store, "rewards.parquet"))
    aligned, sft = (
        pd.read_parquet(nodes[node].file(store, "responses.parquet")).merge(
            rewards.loc[rewards["model_tag"] == tag, ["prompt_id", "reward"]], on="prompt_id"
        )
        for node, tag in (("generate", "aligned"), ("generate_sft", "sft"))
    )
    sft = sft[["prompt_id", "response", "reward"]]
    table = aligned.merge(sft, on="prompt_id", suffixes=("", "_sft")).sort_values("prompt_id").head(EXAMPLES)
    return table.assign(**_names(arm), run_key=nodes["evaluate"].key, method=arm.cfg.method.name)


def embeddings(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns the rows of the stage `embed`, one per response. The source "online" is renamed to the arm's method."""
    table = pd.read_parquet(arm.nodes["embed"].file(store, "embeddings.parquet"))
    return table.assign(source=table["source"].replace("online", arm.cfg.method.name), **_names(arm))


# Experiment -> (file, its columns, function: arm, store -> rows; function: arm, lowest seed -> whether it has rows).
Excerpt = tuple[str, list[str], Callable[[Arm, Store], pd.DataFrame], Callable[[Arm, int], bool]]
EXCERPTS: dict[str, tuple[Excerpt, ...]] = {
    "figure7": (
        ("confidences.csv", CONFIDENCE_COLUMNS, confidences, lambda arm, first: True),
        ("disagreements.csv", DISAGREEMENT_COLUMNS, disagreements, lambda arm, first: arm.cfg.seed == first),
    ),
    "table1": (
        (
            "samples.csv",
            SAMPLE_COLUMNS,
            samples,
            lambda arm, first: (
                (arm.cfg.seed, arm.cfg.objective.name, arm.cfg.operating_point) == (first, "dpo", "matched")
            ),
        ),
    ),
    "figure6": (("embeddings.csv", EMBEDDING_COLUMNS, embeddings, lambda arm, first: arm.runs("embed")),),
}
