"""How far the policy's own responses lie from what the annotator learned on (appendix J.5, Figure 6).

Every response is the mean of its tokens' final hidden states under the arm's SFT model. The plane of the figure is that of
the first two principal components of the labeled responses, so it shows the others as the annotator's data spans the space.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from cwpo.finite import check_finite
from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import labeled_pairs
from cwpo.statistics import mean_shift, principal_plane

RESPONSES = 200  # of each source; fewer where it has fewer


def run(work: Work) -> dict[str, Any]:
    from cwpo.data.batching import encode
    from cwpo.models.embeddings import mean_states
    from cwpo.models.policy import load_policy, load_tokenizer

    folder = work.parents["sft"] / "model"
    tokenizer = load_tokenizer(folder)
    model = load_policy(folder, device=work.device)
    states = {}
    tables = responses(work)
    for source, table in tables.items():
        rows = encode(tokenizer, table["prompt"].tolist(), table["response"].tolist())
        states[source] = mean_states(model, rows, tokenizer.pad_token_id).double().numpy()
        check_finite(
            states[source].sum(axis=1), table["pair_id"].tolist(), f"the hidden states of {source} responses"
        )
    plane = principal_plane(states["labeled"])
    points = [
        pd.DataFrame(plane(states[source]), columns=["x", "y"]).assign(
            source=source, pair_id=table["pair_id"].to_numpy()
        )
        for source, table in tables.items()
    ]
    pd.concat(points, ignore_index=True)[["source", "pair_id", "x", "y"]].to_parquet(
        work.out / "embeddings.parquet", index=False
    )
    metrics = {
        f"shift_{source}": mean_shift(states["labeled"], states[source]) for source in ("offline", "online")
    }
    (work.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics


def responses(work: Work) -> dict[str, pd.DataFrame]:
    """pair_id, prompt and one response of pairs of each source.

    labeled: what the annotator learned from; offline: D_unlabeled; online: the last pairs that the policy sampled. Pairs
    of the first two are drawn at random. The response is response_a, whose side means nothing in any of them.
    """
    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
    online = pd.read_parquet(work.parents["online_align"] / "responses.parquet")
    online = online.rename(columns={"prompt_id": "pair_id"}).drop_duplicates("pair_id", keep="last")
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
    order = np.random.default_rng([seed, 6]).permutation(len(table))
    return table.iloc[order[:RESPONSES]]


EMBED = Stage("embed", 1, ("seed", "text_version"), run, measure=True)
