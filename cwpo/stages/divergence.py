"""Measures KL(policy || reference), how far alignment moved the policy, and how well the policy fits its labels."""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.finite import check_finite
from cwpo.runtime import NATIVE, computing_in
from cwpo.stages.base import Stage, Work

MEASURED = 2000  # training pairs, at most, on which train_accuracy and the quality of online labels are measured


def run(work: Work) -> dict[str, Any]:
    """Writes kl.parquet and metrics.json, and returns the metrics: kl, kl_se and train_accuracy.

    kl.parquet has the columns prompt_id and kl = log pi(y) - log pi_ref(y), in nats, summed over the tokens of y. y is
    the policy's response that evaluation judges, drawn at generation.temperature. The metric kl is the mean of the
    column kl and estimates KL(pi || pi_ref) per response; kl_se is its standard error. train_accuracy (see
    _train_accuracy) is None for online arms.
    """
    from cwpo.data.encoding import encode
    from cwpo.models.logprobs import policy_scores
    from cwpo.models.policy import as_trained, load_tokenizer

    responses = work.table("generate", "responses.parquet")
    folder = work.parents["model"] / "model"
    tokenizer = load_tokenizer(folder)
    rows = [
        (ids[:-1] if unfinished else ids, start)
        for (ids, start), unfinished in zip(
            encode(tokenizer, responses["prompt"].tolist(), responses["response"].tolist()),
            responses["truncated"],
            strict=True,
        )
    ]
    precision = work.config.alignment.precision
    with computing_in("float32" if precision == NATIVE else precision, work.device):  # one model at a time in memory
        reference = as_trained(work.parents["sft"] / "model", device=work.device)
        before = policy_scores(reference, rows, tokenizer.pad_token_id, token_budget=work.tokens)
        del reference
        policy = as_trained(folder, device=work.device)
        kl = (policy_scores(policy, rows, tokenizer.pad_token_id, token_budget=work.tokens) - before).numpy()
    with computing_in(precision, work.device):  # as the stage reference computed its log-probs
        accuracy = _train_accuracy(work, policy, tokenizer) if "weight" in work.parents else None
    check_finite(kl, responses["prompt_id"].tolist(), "the log-prob ratios of the responses")
    pd.DataFrame({"prompt_id": responses["prompt_id"], "kl": kl}).to_parquet(work.out / "kl.parquet", index=False)
    metrics = {"kl": float(kl.mean()), "kl_se": float(kl.std(ddof=1) / np.sqrt(len(kl))), "train_accuracy": accuracy}
    work.write_json("metrics.json", metrics)
    return metrics


def _train_accuracy(work: Work, policy: Any, tokenizer: Any) -> float:
    """Returns the share of training pairs (at most MEASURED, spread evenly) whose chosen response has the larger
    implicit reward, log pi - log pi_ref."""
    from cwpo.data.batching import encode_pairs
    from cwpo.models.packed import score_pairs

    logps = work.table("reference", "reference.parquet")
    pairs = evenly(work.table("weight", "preferences.parquet").merge(logps, on="pair_id", validate="one_to_one"))
    rows = encode_pairs(tokenizer, *(pairs[name].tolist() for name in ("prompt", "chosen", "rejected")))
    chosen, rejected = score_pairs(policy, rows, tokenizer.pad_token_id, work.tokens)
    # in float64, as the reference's: else rounding would give an unchanged policy margins other than 0
    margin = (chosen.double() - rejected.double()).numpy() - (pairs["chosen_logp"] - pairs["rejected_logp"]).to_numpy()
    return float((margin > 0).mean())


def evenly(pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns at most MEASURED of the pairs, spread evenly over the table."""
    return pairs.iloc[np.unique(np.linspace(0, len(pairs) - 1, MEASURED).round().astype(int))]


DIVERGENCE = Stage("divergence", 1, ("alignment.precision", "text_version"), run, measure=True)
