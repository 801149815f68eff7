"""Measures how far the policy's own responses lie from the annotator's training data (appendix J.5, Figure 6).

A response's vector is the mean of its tokens' final hidden states under the arm's SFT model, or the [CLS] state of the
encoder that embedding.path names. x and y are the first two principal components of the labeled responses: the
directions in which the annotator's training data varies most.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cwpo.finite import check_finite
from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import labeled_pairs
from cwpo.statistics import mean_shift, principal_plane

RESPONSES = 200  # responses of each source, at most


def run(work: Work) -> dict[str, Any]:
    embed = _embedding(work)
    states, tables = {}, responses(work)
    for source, table in tables.items():
        states[source] = embed(table["prompt"].tolist(), table["response"].tolist()).double().numpy()
        check_finite(states[source].sum(axis=1), table["pair_id"].tolist(), f"the hidden states of {source} responses")
    plane = principal_plane(states["labeled"])
    points = pd.concat(
        pd.DataFrame(plane(states[source]), columns=["x", "y"]).assign(source=source, pair_id=list(table["pair_id"]))
        for source, table in tables.items()
    )
    points[["source", "pair_id", "x", "y"]].to_parquet(work.out / "embeddings.parquet", index=False)
    metrics = {f"shift_{other}": mean_shift(states["labeled"], states[other]) for other in ("offline", "online")}
    work.write_json("metrics.json", metrics)
    return metrics


def _embedding(work: Work) -> Callable[[list[str], list[str]], Any]:
    """Returns a function that embeds N responses to N prompts: (N, d), float32. An encoder reads only the responses."""
    from cwpo.data.encoding import encode
    from cwpo.models.embeddings import first_states, mean_states
    from cwpo.models.policy import load_policy, load_tokenizer

    encoder, folder = work.config.embedding, work.parents["sft"] / "model"
    if encoder.path is not None:
        return lambda prompts, texts: first_states(encoder.path, encoder.revision, texts, work.device)
    tokenizer, model = load_tokenizer(folder), load_policy(folder, device=work.device)
    return lambda prompts, texts: mean_states(model, encode(tokenizer, prompts, texts), tokenizer.pad_token_id)


def responses(work: Work) -> dict[str, pd.DataFrame]:
    """Returns {source: table} with the columns pair_id, prompt and response, at most RESPONSES rows each.

    labeled: random pairs that the annotator learned from. offline: random pairs of D_unlabeled. online: the last pairs
    that the policy sampled. The response is response_a; in no source does "a" mean better or worse.
    """
    pairs = work.table("prepare", "pairs.parquet")
    online = (
        work.table("online_align", "responses.parquet")
        .rename(columns={"prompt_id": "pair_id"})
        .drop_duplicates("pair_id", keep="last")
    )
    tables = {
        "labeled": _drawn(labeled_pairs(work), work.config.seed),
        "offline": _drawn(pairs[pairs["split"] == "unlabeled"], work.config.seed),
        "online": online.tail(RESPONSES),
    }
    return {
        source: table[["pair_id", "prompt", "response_a"]].rename(columns={"response_a": "response"})
        for source, table in tables.items()
    }


def _drawn(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    return table.iloc[np.random.default_rng([seed, 6]).permutation(len(table))[:RESPONSES]]


EMBED = Stage("embed", 1, ("embedding", "seed", "text_version"), run, measure=True)
