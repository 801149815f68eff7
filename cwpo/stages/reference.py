"""Computes sequence log-probs of the selected pairs under the arm's SFT model, the reference of its alignment."""

from typing import Any

import pandas as pd

from cwpo.finite import check_finite
from cwpo.runtime import computing_in
from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.data.batching import encode_pairs
    from cwpo.models.packed import score_pairs
    from cwpo.models.policy import as_trained, load_tokenizer

    table = work.table("select", "selected.parquet")
    folder = work.parents["sft"] / "model"
    tokenizer = load_tokenizer(folder)
    model = as_trained(folder, device=work.device)
    result = {"pair_id": table["pair_id"]}
    rows = encode_pairs(tokenizer, *(table[name].tolist() for name in ("prompt", "chosen", "rejected")))
    precision = work.config.alignment.precision  # the policy's precision, so that at step 0 every margin is 0
    with computing_in(precision, work.device):
        scores = score_pairs(model, rows, tokenizer.pad_token_id, work.tokens)
    for side, logps in zip(("chosen", "rejected"), scores, strict=True):
        check_finite(logps.numpy(), table["pair_id"].tolist(), f"the {side} responses' log-probs")
        result[f"{side}_logp"] = logps.double().numpy()
        result[f"{side}_tokens"] = [len(row[f"{side}_ids"]) - row[f"{side}_start"] for row in rows]
    columns = ["pair_id", "chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens"]
    pd.DataFrame(result)[columns].to_parquet(work.out / "reference.parquet", index=False)
    return {"scored": len(table)}


REFERENCE = Stage("reference", 1, ("alignment.precision", "text_version"), run)
