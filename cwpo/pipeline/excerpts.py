"""Writes the results that are not means: distributions of confidence, a few responses, a few disputed pairs.

Figure 6 shows responses as points, and Figure 7 confidences. Tables 14 and 15 show responses, Tables 18 and 19 pairs on
which annotator and human disagree.
"""

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

BINS = 20
EXAMPLES = 3  # number of prompts, or of pairs in each band, per data set
UNSURE, SURE = 0.1, 0.9  # the paper's bands of confidence


def record_excerpts(arms: Sequence[Arm], store: Store, folder: Path, *, experiment: str, whole: bool) -> list[Path]:
    """Writes the files that EXCERPTS lists for the experiment, returns their paths. `whole` removes old rows first."""
    first = min((arm.cfg.seed for arm in arms), default=0)
    written = []
    for name, columns, rows_of, wanted in EXCERPTS.get(experiment, ()):
        frames = [rows_of(arm, store) for arm in arms if wanted(arm, first)]
        if frames:
            rows = pd.concat(frames, ignore_index=True)
            if "run_key" not in columns:  # several arms may have the same point
                rows = rows.drop_duplicates([*POINTS, "pair_id"])
            (write_rows if whole else replace_rows)(folder / name, rows, columns)
            written.append(folder / name)
    return written


def _names(arm: Arm) -> dict[str, object]:
    cfg = arm.cfg
    return {"data": cfg.data.name, "weak": cfg.pair.weak, "strong": cfg.pair.strong, "seed": cfg.seed}


def annotated(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns the unlabeled pairs of an arm with the annotator's labels, the human labels and the gold rewards."""
    pairs = pd.read_parquet(arm.nodes["prepare"].file(store, "pairs.parquet"))
    table = pairs[pairs["split"] == "unlabeled"]
    for node, file in (("annotate", "annotations.parquet"), ("score_gold", "gold.parquet")):
        table = table.merge(pd.read_parquet(arm.nodes[node].file(store, file)), on="pair_id")
    return table


def confidences(arm: Arm, store: Store) -> pd.DataFrame:
    """Returns CONFIDENCE_COLUMNS: pairs per confidence bin, and how many labels agree with human or gold labels."""
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
    """Returns DISAGREEMENT_COLUMNS: a few pairs of low and of high confidence whose label is not the human one."""
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
    """Returns SAMPLE_COLUMNS: responses of the SFT and the aligned model to the first EXAMPLES test prompts."""
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
    """Returns EMBEDDING_COLUMNS: a 2-D point per response. `source`: labeled, offline, or the online arm's method."""
    table = pd.read_parquet(arm.nodes["embed"].file(store, "embeddings.parquet"))
    return table.assign(source=table["source"].replace("online", arm.cfg.method.name), **_names(arm))


# Experiment -> (file, its columns, function for the rows of an arm, test whether an arm has rows given the first seed).
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
