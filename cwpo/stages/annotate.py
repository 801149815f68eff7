"""Every pair scored and labelled by the annotator (Eq. 6), with the margin and the confidence (Eq. 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.weighting import scaled_sigmoid


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.annotator import load_annotator

    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
    scores = score_pairs(work, pairs, load_annotator, work.parents["train_annotator"] / "model")
    margin = (scores["score_a"] - scores["score_b"]).abs()
    table = pd.DataFrame(
        {
            "pair_id": pairs["pair_id"],
            **scores,
            "label": np.where(scores["score_a"] >= scores["score_b"], "a", "b"),
            "margin": margin,
            "confidence": scaled_sigmoid(margin),
        }
    )
    table.to_parquet(work.out / "annotations.parquet", index=False)
    return {"annotated": len(table), "mean_confidence": float(table["confidence"].mean())}


def score_pairs(work: Work, pairs: pd.DataFrame, load: Any, folder: Any) -> pd.DataFrame:
    """score_a and score_b of `pairs`, float64, by the scalar-head model in `folder`."""
    from cwpo.data.batching import encode
    from cwpo.models.annotator import score_responses
    from cwpo.models.policy import load_tokenizer

    tokenizer = load_tokenizer(folder)
    model = load(folder, pad_id=tokenizer.pad_token_id, device=work.device)
    columns = {}
    for side in ("a", "b"):
        rows = encode(tokenizer, pairs["prompt"].tolist(), pairs[f"response_{side}"].tolist())
        columns[f"score_{side}"] = score_responses(model, rows, tokenizer.pad_token_id).double().numpy()
    frame = pd.DataFrame(columns, index=pairs.index)
    broken = int((~np.isfinite(frame.to_numpy())).any(axis=1).sum())
    if broken:
        raise FloatingPointError(f"the scores of {broken} of {len(frame)} pairs are NaN or infinite")
    return frame


ANNOTATE = Stage("annotate", 1, (), run)
