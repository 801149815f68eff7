"""Scores and labels every pair with the annotator (Eq. 6), and adds the margin and the confidence (Eq. 7)."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cwpo.errors import InputError
from cwpo.finite import check_finite
from cwpo.stages.base import Stage, Work
from cwpo.store.shards import column_mean, map_table
from cwpo.weighting import scaled_sigmoid

Texts = Sequence[str]
Score = Callable[[Texts, Texts, Texts], tuple[Any, Any]]  # N prompts, responses a and b -> scores (N,) of a, and of b
COLUMNS = ["pair_id", "prompt", "response_a", "response_b"]


def run(scorer: Callable[[Work], Score], work: Work) -> dict[str, Any]:
    """Scores all pairs with the function that scorer(work) returns, and writes annotations.parquet (annotation_table).

    Raises InputError if in every pair both responses have the same score.
    """
    started = time.perf_counter()
    score = scorer(work)

    def annotate(pairs: pd.DataFrame) -> pd.DataFrame:
        score_a, score_b = score(*(pairs[name].tolist() for name in COLUMNS[1:]))
        names = pairs["pair_id"].tolist()
        table = annotation_table(score_a.double().numpy(), score_b.double().numpy(), names)
        table.insert(0, "pair_id", names)
        return table

    pairs, annotations = work.parents["prepare"] / "pairs.parquet", work.out / "annotations.parquet"
    annotated = map_table(pairs, annotations, COLUMNS, annotate, scratch=work.kept(), progress=work.progress)
    mean_confidence = column_mean(annotations, "confidence")
    if mean_confidence == 0:
        raise InputError(
            f"the annotator gives both responses of all {annotated} pairs the same score, so it prefers none; train it longer "
            "(annotator.training.epochs, learning_rate), or give it more labels (human_fraction)"
        )
    seconds = round(time.perf_counter() - started, 3)
    return {"annotated": annotated, "mean_confidence": mean_confidence, "seconds": seconds}


def annotation_table(score_a: np.ndarray, score_b: np.ndarray, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns a row per pair: score_a, score_b, label ("a" or "b"), margin |score_a - score_b|, confidence in [0, 1].

    Equal scores give the label "a" with margin and confidence 0. Raises FloatingPointError, with the pairs' `names`
    (default: row numbers), if a score or the difference of two scores is NaN or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        margin = np.abs(score_a - score_b)
    check_finite(margin, names or [f"row {i}" for i in range(len(margin))], "the scores")
    return pd.DataFrame(
        {
            "score_a": score_a,
            "score_b": score_b,
            "label": np.where(score_a >= score_b, "a", "b"),
            "margin": margin,
            "confidence": scaled_sigmoid(margin),
        }
    )


def by_head(work: Work) -> Score:
    """Loads a Bradley-Terry annotator and returns its scoring function, which scores each response alone."""
    from cwpo.models.annotator import score_responses

    scores = functools.partial(score_responses, token_budget=work.tokens)
    return functools.partial(_one_by_one, scores, *_trained(work))


def by_both_orders(work: Work) -> Score:
    """Loads a PairRM and returns its scoring function, score_both_orders, which averages two orders (Eq. 21)."""
    from cwpo.models.pairrm import score_both_orders

    return functools.partial(score_both_orders, *_trained(work), token_budget=work.tokens)


def _trained(work: Work) -> tuple[Any, Any]:
    """Loads the annotator, a model with a scalar head, and its tokenizer."""
    from cwpo.models.annotator import load_annotator
    from cwpo.models.policy import load_tokenizer

    folder = work.parents["train_annotator"] / "model"
    tokenizer = load_tokenizer(folder)
    return load_annotator(folder, pad_id=tokenizer.pad_token_id, device=work.device), tokenizer


def by_policy(work: Work) -> Score:
    """Loads a DPO annotator and returns its scoring function.

    It scores a response by its log-prob, or by its implicit reward (Eq. 17) if annotator.scoring=implicit.
    """
    from cwpo.models.logprobs import policy_scores
    from cwpo.models.policy import load_policy, load_tokenizer

    trained, annotator = work.parents["train_annotator"], work.config.annotator
    tokenizer = load_tokenizer(trained / "model")
    model = load_policy(trained / "model", device=work.device)
    implicit = annotator.scoring == "implicit"
    reference = load_policy(trained / "reference", device=work.device) if implicit else None
    scores = functools.partial(policy_scores, reference=reference, beta=annotator.beta, token_budget=work.tokens)
    return functools.partial(_one_by_one, scores, model, tokenizer)


def _one_by_one(
    scores: Callable[..., Any], model: Any, tokenizer: Any, prompts: Texts, first: Texts, second: Texts
) -> tuple[Any, Any]:
    """Returns the scores (N,) of the `first` and of the `second` responses to N prompts, each scored on its own."""
    from cwpo.data.encoding import encode

    pad_id = tokenizer.pad_token_id
    score_a, score_b = (scores(model, encode(tokenizer, prompts, side), pad_id) for side in (first, second))
    return score_a, score_b


POLICY_READS = ("annotator.scoring", "annotator.beta")
SCORING: dict[str, tuple[Callable[[Work], Score], tuple[str, ...]]] = {
    "bt": (by_head, ()),
    "pairrm": (by_both_orders, ()),
    "dpo": (by_policy, POLICY_READS),
    "sft_dpo": (by_policy, POLICY_READS),
}


def annotate_stage(annotator: str) -> Stage:
    """Returns the stage for a choice of conf/annotator. It declares only the keys that its scoring function reads."""
    scorer, reads = SCORING[annotator]
    return Stage("annotate", 1, (*reads, "text_version"), functools.partial(run, scorer))
