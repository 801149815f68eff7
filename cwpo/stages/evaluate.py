"""GRA and mean gold rewards of the aligned model and its SFT model, and the quality of the labels it was trained on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.stages.score_gold import GOLD_READS, trained_folder
from cwpo.statistics import gold_reward_accuracy


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.gold import load_gold

    gold = load_gold(work.config.gold, trained_folder(work), work.device)
    responses = {
        tag: pd.read_parquet(work.parents[parent] / "responses.parquet")
        for tag, parent in (("sft", "generate_sft"), ("aligned", "generate"))
    }
    for table in responses.values():
        table["reward"] = gold.rewards(table["prompt"].tolist(), table["response"].tolist())
    rewards = pd.concat(responses.values(), ignore_index=True)
    rewards[["prompt_id", "model_tag", "reward", "n_tokens", "truncated"]].to_parquet(
        work.out / "rewards.parquet", index=False
    )
    both = responses["aligned"].merge(
        responses["sft"], on="prompt_id", suffixes=("", "_sft"), validate="one_to_one"
    )
    gra = gold_reward_accuracy(both["reward"].to_numpy(), both["reward_sft"].to_numpy())
    metrics = {
        "gra": gra.accuracy,
        "tie_rate": gra.tie_rate,
        "gra_se": gra.standard_error,
        "reward_mean": float(both["reward"].mean()),
        "reward_sft_mean": float(both["reward_sft"].mean()),
        "mean_length": float(both["n_tokens"].mean()),
        "mean_length_sft": float(both["n_tokens_sft"].mean()),
        "truncated_share": float(both["truncated"].mean()),
        "n_eval": len(both),
        **label_quality(work),
    }
    (work.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics


def label_quality(work: Work) -> dict[str, Any]:
    """Of the arm's training pairs: labels that agree with gold, and the weighted agreement M (see margin_agreement)."""
    preferences = pd.read_parquet(work.parents["weight"] / "preferences.parquet")
    pairs = pd.read_parquet(
        work.parents["prepare"] / "pairs.parquet", columns=["pair_id", "response_a", "human_label"]
    )
    table = preferences.merge(pairs, on="pair_id").merge(
        pd.read_parquet(work.parents["score_gold"] / "gold.parquet"), on="pair_id", validate="one_to_one"
    )
    gap_ab = (table["gold_a"] - table["gold_b"]).to_numpy()
    gap = np.where(table["chosen"] == table["response_a"], gap_ab, -gap_ab)
    human = np.where(table["human_label"] == "a", gap_ab, -gap_ab)
    decided = gap != 0
    return {
        "label_accuracy_gold": float((gap[decided] > 0).mean()) if decided.any() else None,
        "human_gold_agreement": float((human[decided] > 0).mean()) if decided.any() else None,
        "margin_agreement": margin_agreement(table["weight"].to_numpy(), gap),
        "mean_weight": float(table["weight"].mean()),
        "n_train": len(table),
    }


def margin_agreement(weights: np.ndarray, gap: np.ndarray) -> float | None:
    """M = E[w * gap] / E[w * |gap|], in [-1, 1]; gap = gold(chosen) - gold(rejected). None where nothing weighs."""
    total = float(np.sum(weights * np.abs(gap)))
    return float(np.sum(weights * gap)) / total if total > 0 else None


EVALUATE = Stage("evaluate", 1, GOLD_READS, run)
