"""Sequence log-probs of the selected pairs under the arm's SFT model, the reference of its alignment."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.data.batching import encode
    from cwpo.models.logprobs import score_sequences
    from cwpo.models.policy import load_policy, load_tokenizer

    table = pd.read_parquet(work.parents["select"] / "selected.parquet")
    folder = work.parents["sft"] / "model"
    tokenizer = load_tokenizer(folder)
    model = load_policy(folder, device=work.device)
    result = {"pair_id": table["pair_id"]}
    for side in ("chosen", "rejected"):
        rows = encode(tokenizer, table["prompt"].tolist(), table[side].tolist())
        result[f"{side}_logp"] = score_sequences(model, rows, tokenizer.pad_token_id).double().numpy()
        result[f"{side}_tokens"] = [len(ids) - start for ids, start in rows]
    columns = ["pair_id", "chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens"]
    pd.DataFrame(result)[columns].to_parquet(work.out / "reference.parquet", index=False)
    return {"scored": len(table)}


REFERENCE = Stage("reference", 1, (), run)
