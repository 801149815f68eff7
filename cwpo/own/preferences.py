"""Turns an annotator's scores into weighted pairs and writes preferences.parquet and .jsonl shard by shard."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from cwpo.data.labels import chosen_rejected
from cwpo.own.crossfit import answers
from cwpo.own.fit import Annotates
from cwpo.store.shards import map_table
from cwpo.weighting import pair_weights, scaled_sigmoid

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "confidence", "margin", "label_source"]
SHARD = 5_000  # pairs in memory at a time
C4 = 0.2  # the scale of conf/weighting/c4


def annotate_pairs(
    pairs: Path,
    out: Path,
    annotator: Annotates,
    cfg: Any,
    temperature: float,
    *,
    scratch: Path,
    progress: Callable[[int, int], None],
) -> int:
    """Labels and weights the pairs in the Parquet file `pairs`; writes preferences.parquet and .jsonl to `out`.

    Returns the number of rows written. The annotator's gaps, score(`a`) - score(`b`), are divided by `temperature`.
    After a stopped call, the next one reuses the finished shards in `scratch`.
    """

    def weigh(part: pd.DataFrame) -> pd.DataFrame:
        gap = np.zeros(len(part))
        unlabeled = (part["n_votes"] == 0).to_numpy()
        if unlabeled.any():
            rows = part[unlabeled]
            gap[unlabeled] = answers(rows, annotator.gaps(rows))["gap"]
        return preferences(part, gap / temperature, cfg.weighting, cfg.include_labeled)

    columns = ["pair_id", "prompt", "response_a", "response_b", "target", "n_votes"]
    columns += ["messages"] if has_messages(pairs) else []
    target = out / "preferences.parquet"
    written = map_table(pairs, target, columns, weigh, scratch=scratch, progress=progress, rows=SHARD)
    with (out / "preferences.jsonl").open("w", encoding="utf-8") as lines, pq.ParquetFile(target) as table:
        for batch in table.iter_batches(SHARD):
            if batch.num_rows:
                batch.to_pandas().to_json(lines, orient="records", lines=True, force_ascii=False)
    shutil.rmtree(scratch, ignore_errors=True)
    return written


def preferences(pairs: pd.DataFrame, gap: np.ndarray, weighting: str, include_labeled: bool = True) -> pd.DataFrame:
    """Returns the preference table: COLUMNS (and `messages` if `pairs` has it), a row for each pair that is kept.

    The human label decides which response is chosen; without one, the sign of `gap` does (0 chooses `a`). `gap`,
    (pairs,): the annotator's score of response `a` minus that of `b`, divided by the temperature. `weighting`, for
    example c1, names the function of |gap| that gives the weight of an annotator's label. A human label weighs
    |2 target - 1|, where `target` is 0, 1 or the share of votes for `a`: the C1 weight of an annotator that gives `a`
    the probability `target`. Pairs with tied votes are dropped; include_labeled=False drops all with human labels.
    """
    human, target = pairs["n_votes"].to_numpy() > 0, pairs["target"].to_numpy()
    a_wins = np.where(human, target > 0.5, gap >= 0)
    margin = np.abs(gap[~human])
    scale = C4 if weighting == "c4" else 1.0
    table = chosen_rejected(pairs, a_wins).reset_index(drop=True)
    table = table.assign(
        weight=np.abs(2 * target - 1),
        confidence=np.nan,
        margin=np.nan,
        label_source=np.where(human, "human", "annotator"),
    )
    table.loc[~human, "weight"] = pair_weights(weighting, margin, scale)
    table.loc[~human, "confidence"] = scaled_sigmoid(margin)
    table.loc[~human, "margin"] = margin
    kept = ~human | (include_labeled & (target != 0.5))
    return table[kept][[*COLUMNS, *({"messages"} & set(pairs))]].reset_index(drop=True)


def has_messages(pairs: Path) -> bool:
    """Returns whether any prompt in the file `pairs`, which `convert` wrote, is a list of messages."""
    column = pq.read_table(pairs, columns=["messages"])["messages"]
    return column.null_count < len(column)


def first_annotated(table: Path, most: int = 20_000) -> pd.DataFrame:
    """Returns prompt, chosen and rejected of the first `most` pairs in `table` that the annotator labelled."""
    annotated, names = ds.field("label_source") == "annotator", ["prompt", "chosen", "rejected"]
    return ds.dataset(table).head(most, columns=names, filter=annotated).to_pandas()
