"""Every pair scored and labelled by the annotator (Eq. 6), with the margin and the confidence (Eq. 7)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.weighting import scaled_sigmoid

Score = Callable[[Work, list[str], list[str], list[str]], tuple[Any, Any]]


def run(score: Score, work: Work) -> dict[str, Any]:
    """Annotate by `score`, which gives score_a and score_b, each (N,), of prompts and their responses a and b."""
    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
    started = time.perf_counter()
    score_a, score_b = score(
        work, pairs["prompt"].tolist(), pairs["response_a"].tolist(), pairs["response_b"].tolist()
    )
    seconds = time.perf_counter() - started
    table = annotation_table(score_a.double().numpy(), score_b.double().numpy())
    table.insert(0, "pair_id", pairs["pair_id"].to_numpy())
    table.to_parquet(work.out / "annotations.parquet", index=False)
    return {
        "annotated": len(table),
        "mean_confidence": float(table["confidence"].mean()),
        "seconds": round(seconds, 3),
    }


def annotation_table(score_a: np.ndarray, score_b: np.ndarray) -> pd.DataFrame:
    """score_a, score_b, label ("a" or "b"), margin (>= 0) and confidence in [0, 1) of N pairs from their scores, (N,).

    Raises FloatingPointError for scores that are NaN or infinite.
    """
    broken = int((~np.isfinite(score_a) | ~np.isfinite(score_b)).sum())
    if broken:
        raise FloatingPointError(f"the scores of {broken} of {len(score_a)} pairs are NaN or infinite")
    margin = np.abs(score_a - score_b)
    return pd.DataFrame(
        {
            "score_a": score_a,
            "score_b": score_b,
            "label": np.where(score_a >= score_b, "a", "b"),
            "margin": margin,
            "confidence": scaled_sigmoid(margin),
        }
    )


def by_head(work: Work, prompts: list[str], first: list[str], second: list[str]) -> tuple[Any, Any]:
    """The Bradley-Terry annotator's score of each response on its own."""
    from cwpo.data.batching import encode
    from cwpo.models.annotator import load_annotator, score_responses
    from cwpo.models.policy import load_tokenizer

    folder = work.parents["train_annotator"] / "model"
    tokenizer = load_tokenizer(folder)
    model = load_annotator(folder, pad_id=tokenizer.pad_token_id, device=work.device)
    rows = (encode(tokenizer, prompts, responses) for responses in (first, second))
    score_a, score_b = (
        score_responses(model, part, tokenizer.pad_token_id, token_budget=work.token_budget) for part in rows
    )
    return score_a, score_b


def by_both_orders(work: Work, prompts: list[str], first: list[str], second: list[str]) -> tuple[Any, Any]:
    """PairRM's logits of the two orders, halved (Eq. 21)."""
    from cwpo.models.annotator import load_annotator
    from cwpo.models.pairrm import score_both_orders
    from cwpo.models.policy import load_tokenizer

    folder = work.parents["train_annotator"] / "model"
    tokenizer = load_tokenizer(folder)
    model = load_annotator(folder, pad_id=tokenizer.pad_token_id, device=work.device)
    return score_both_orders(model, tokenizer, prompts, first, second)


def by_policy(work: Work, prompts: list[str], first: list[str], second: list[str]) -> tuple[Any, Any]:
    """The likelihood or the implicit reward of each response under the annotator trained by DPO (Eq. 17)."""
    from cwpo.data.batching import encode
    from cwpo.models.policy import load_policy, load_tokenizer
    from cwpo.models.policy_scores import policy_scores

    trained, annotator = work.parents["train_annotator"], work.config.annotator
    tokenizer = load_tokenizer(trained / "model")
    model = load_policy(trained / "model", device=work.device)
    implicit = annotator.scoring == "implicit"
    reference = load_policy(trained / "reference", device=work.device) if implicit else None
    rows = (encode(tokenizer, prompts, responses) for responses in (first, second))
    score_a, score_b = (
        policy_scores(model, part, tokenizer.pad_token_id, reference=reference, beta=annotator.beta)
        for part in rows
    )
    return score_a, score_b


POLICY_READS = ("annotator.scoring", "annotator.beta")
SCORING: dict[str, tuple[Score, tuple[str, ...]]] = {
    "bt": (by_head, ()),
    "pairrm": (by_both_orders, ()),
    "dpo": (by_policy, POLICY_READS),
    "sft_dpo": (by_policy, POLICY_READS),
}


def annotate_stage(annotator: str) -> Stage:
    """The stage for a choice of conf/annotator: how it scores, and the config keys that this reads."""
    score, reads = SCORING[annotator]
    return Stage("annotate", 1, reads, functools.partial(run, score))
