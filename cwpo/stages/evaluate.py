"""Measures GRA and mean gold rewards of the aligned model and its SFT model, and the quality of the training labels."""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.errors import InputError
from cwpo.finite import check_finite
from cwpo.results import rounded
from cwpo.stages.base import Stage, Work
from cwpo.stages.divergence import evenly
from cwpo.stages.score_gold import GOLD_READS, SHARD, trained_folder
from cwpo.statistics import gold_reward_accuracy
from cwpo.store.shards import map_rows

SHOWN = 100  # prompts whose responses W&B shows
OF_LABELS = ("label_accuracy_gold", "human_gold_agreement", "margin_agreement")


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.gold import Comparison, load_gold

    gold = load_gold(work.config.gold, trained_folder(work), work.device, work.tokens)
    parents = {"sft": "generate_sft", "aligned": "generate"}
    responses = {tag: work.table(parent, "responses.parquet") for tag, parent in parents.items()}
    if isinstance(gold, Comparison):
        responses = compared(gold, responses)
    else:
        responses = {tag: _rewarded(work, gold, tag, table) for tag, table in responses.items()}
        responses["aligned"] = _alike(**responses)
    columns = ["prompt_id", "model_tag", "reward", "n_tokens", "truncated"]
    rewards = pd.concat(responses.values(), ignore_index=True)[columns]
    rewards.to_parquet(work.out / "rewards.parquet", index=False)
    sft, aligned = responses["sft"], responses["aligned"]
    both = aligned.merge(sft, on="prompt_id", suffixes=("", "_sft"), validate="one_to_one")
    gra = gold_reward_accuracy(rounded(both["reward"]), rounded(both["reward_sft"]))
    metrics = {
        "gra": gra.accuracy,
        "tie_rate": gra.tie_rate,
        "gra_se": gra.standard_error,
        "reward_mean": float(both["reward"].mean()),
        "reward_sft_mean": float(both["reward_sft"].mean()),
        "mean_length": float(both["n_tokens"].mean()),
        "mean_length_sft": float(both["n_tokens_sft"].mean()),
        "truncated_share": float(both["truncated"].mean()),
        "truncated_share_sft": float(both["truncated_sft"].mean()),
        "n_eval": len(both),
        **(online_quality(work, gold) if "online_align" in work.parents else label_quality(work)),
        **getattr(gold, "counts", {}),
    }
    work.write_json("metrics.json", metrics)
    if work.tracker.shows:
        _show(work, both)
    return metrics


def _rewarded(work: Work, gold: Any, tag: str, responses: pd.DataFrame) -> pd.DataFrame:
    """Returns the responses of the model `tag` ("sft" or "aligned") with their gold `reward`."""

    def score(part: pd.DataFrame) -> pd.DataFrame:
        rewards = gold.rewards(part["prompt"].tolist(), part["response"].tolist())
        check_finite(rewards, part["prompt_id"].tolist(), f"the gold rewards of the {tag} model's responses")
        return part.assign(reward=rewards)

    return map_rows(responses, score, scratch=work.kept(tag), rows=SHARD, progress=work.progress)


def _alike(sft: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """Returns `aligned`; where both models gave the same response to a prompt, its reward is replaced by that in `sft`.

    The same text can score slightly differently in another batch, by rounding; it must not count as better or worse.
    """
    known = sft.set_index("prompt_id").reindex(aligned["prompt_id"])
    same = aligned["response"].to_numpy() == known["response"].to_numpy()
    return aligned.assign(reward=np.where(same, known["reward"], aligned["reward"]))


def compared(gold: Any, responses: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns each model's responses to the prompts that both answered; `reward` is gold's P(better than the other).

    Prompts that the gold judge could not compare are left out. Raises InputError if fewer than 2 are left.
    """
    sft, aligned = responses["sft"], responses["aligned"]
    aligned = aligned.merge(sft[["prompt_id"]], on="prompt_id", validate="one_to_one")
    sft = aligned[["prompt_id"]].merge(sft, on="prompt_id", validate="one_to_one")
    texts = (column.tolist() for column in (aligned["prompt"], aligned["response"], sft["response"]))
    preferred = gold.preferences(*texts)
    judged = ~np.isnan(preferred)
    if judged.sum() < 2:
        raise InputError(
            f"the gold judge compared the responses to {int(judged.sum())} of {len(aligned)} prompts, and at least 2 "
            f"are needed: {dict(gold.counts)}; read the judge's answers, or use another judge (gold=)"
        )
    rewards = {"sft": sft.assign(reward=1 - preferred), "aligned": aligned.assign(reward=preferred)}
    return {tag: table[judged] for tag, table in rewards.items()}


def _show(work: Work, both: pd.DataFrame) -> None:
    """Logs each model's mean reward, mean tokens and truncated share, and the first SHOWN responses of both models."""
    models = pd.DataFrame(
        {
            "model": model,
            "mean gold reward": both[f"reward{suffix}"].mean(),
            "mean tokens": both[f"n_tokens{suffix}"].mean(),
            "truncated": both[f"truncated{suffix}"].mean(),
            "prompts": len(both),
        }
        for model, suffix in (("sft", "_sft"), ("aligned", ""))
    )
    columns = ["prompt_id", "prompt", "response_sft", "response", "reward_sft", "reward"]
    work.tracker.table("evaluation/models", models)
    work.tracker.table("evaluation/responses", both[columns].head(SHOWN))


def label_quality(work: Work) -> dict[str, Any]:
    """Returns how well the labels of the arm's training pairs agree with gold, and the pairs' number and mean weight.

    label_accuracy_gold, human_gold_agreement: the shares of the arm's and of the human labels that agree with gold,
    over the pairs with unequal gold rewards. margin_agreement: see the function of this name. These three are None if
    gold has not scored the pairs.
    """
    table = work.table("weight", "preferences.parquet")
    trained = {"mean_weight": float(table["weight"].mean()), "n_train": len(table)}
    if "score_gold" not in work.parents:
        return dict.fromkeys(OF_LABELS) | trained
    pairs = work.table("prepare", "pairs.parquet", ["pair_id", "response_a", "human_label"])
    for other in (pairs, work.table("score_gold", "gold.parquet")):
        table = table.merge(other, on="pair_id", validate="one_to_one")
    gap_ab = (table["gold_a"] - table["gold_b"]).to_numpy()
    gap = np.where(table["chosen"] == table["response_a"], gap_ab, -gap_ab)
    return {
        "label_accuracy_gold": _agreement(gap),
        "human_gold_agreement": _agreement(np.where(table["human_label"] == "a", gap_ab, -gap_ab)),
        "margin_agreement": margin_agreement(table["weight"].to_numpy(), gap),
        **trained,
    }


def online_quality(work: Work, gold: Any) -> dict[str, Any]:
    """Returns label_quality's numbers for an online arm's training pairs, without human_gold_agreement.

    Gold scores only some of the pairs, spread evenly over the training. A gold that costs money scores none: numbers
    that compare with gold are None.
    """
    from cwpo.models.gold import both_rewards

    pairs = work.table("online_align", "responses.parquet")
    pairs = pairs[pairs["dropped"] == ""]
    trained = {"mean_weight": float(pairs["weight"].mean()), "n_train": len(pairs)}
    if getattr(gold, "paid", False):
        return {"label_accuracy_gold": None, "margin_agreement": None, **trained}
    table = evenly(pairs)
    texts = (table[name].tolist() for name in ("prompt", "response_a", "response_b"))
    reward_a, reward_b = both_rewards(gold, *texts)
    gap = np.where(table["score_a"] > table["score_b"], 1, -1) * (reward_a - reward_b)
    agreement = margin_agreement(table["weight"].to_numpy(), gap)
    return {"label_accuracy_gold": _agreement(gap), "margin_agreement": agreement, **trained}


def _agreement(gap: np.ndarray) -> float | None:
    """Returns the share of nonzero gaps that are above 0, None if all are 0; gap = gold(chosen) - gold(rejected)."""
    decided = gap[gap != 0]
    return float((decided > 0).mean()) if len(decided) else None


def margin_agreement(weights: np.ndarray, gap: np.ndarray) -> float | None:
    """Returns sum(weight * gap) / sum(weight * |gap|), in [-1, 1], None for 0/0; gap: gold(chosen) - gold(rejected)."""
    total = float(np.sum(weights * np.abs(gap)))
    return float(np.sum(weights * gap)) / total if total > 0 else None


EVALUATE = Stage("evaluate", 2, GOLD_READS, run)
