"""Mixes the arm's own labeled pairs with pairs of another data set or with poisoned ones (Tables 24, 25)."""

from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.labels import chosen_rejected
from cwpo.errors import InputError
from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    config = work.config.labeled
    own = _labeled(work, "prepare")
    rng = np.random.default_rng([work.config.seed, 4])
    parts = [own.iloc[rng.permutation(len(own))[: round(config.own_share * len(own))]]]
    if "other" in work.parents:
        other = _labeled(work, "other")
        for known in ("pairs.parquet", "held_out.parquet"):  # pairs of the arm; pairs that no arm may see
            other = other[~other["pair_id"].isin(work.table("prepare", known)["pair_id"])]
        wanted = len(own) - len(parts[0])
        if wanted > len(other):
            raise InputError(
                f"labeled.own_share={config.own_share} wants {wanted} labeled pairs of {config.other}, which has {len(other)}; "
                "raise data.pairs or labeled.own_share"
            )
        parts.append(other.iloc[rng.permutation(len(other))[:wanted]])
    if config.poison_fraction:
        gold = work.table("score_gold", "gold.parquet")
        spare = own[~own["pair_id"].isin(parts[0]["pair_id"])]
        parts.append(poisoned(spare, gold, round(config.poison_fraction * len(own))))
    table = pd.concat(parts, ignore_index=True).drop_duplicates("pair_id")
    table.to_parquet(work.out / "labeled.parquet", index=False)
    return {"labeled": len(table), "own": len(parts[0])}


def poisoned(pairs: pd.DataFrame, gold: pd.DataFrame, count: int) -> pd.DataFrame:
    """Returns the `count` pairs whose gold rewards differ most; `human_label` names the worse response (appendix J.8).

    Raises InputError if fewer than `count` pairs have different gold rewards.
    """
    table = pairs.merge(gold, on="pair_id", validate="one_to_one")
    gap = (table["gold_a"] - table["gold_b"]).to_numpy()
    order = np.argsort(-np.abs(gap), kind="stable")[:count]
    if len(order) < count or not np.all(gap[order]):
        raise InputError(
            f"labeled.poison_fraction wants {count} pairs to poison, but only {int((gap != 0).sum())} of the labeled "
            "pairs that labeled.own_share leaves out have unequal gold rewards; "
            "lower labeled.poison_fraction or labeled.own_share"
        )
    return table.assign(human_label=np.where(gap > 0, "b", "a")).iloc[order][list(pairs.columns)]


def _labeled(work: Work, parent: str) -> pd.DataFrame:
    pairs = work.table(parent, "pairs.parquet")
    return pairs[pairs["split"] == "labeled"]


def labeled_pairs(work: Work) -> pd.DataFrame:
    """Returns the pairs that an annotator learns from.

    They come from the parent stage `labels` if there is one, else from the labeled split.
    """
    if "labels" in work.parents:
        return work.table("labels", "labeled.parquet")
    return _labeled(work, "prepare")


def by_human_label(pairs: pd.DataFrame) -> list[list[str]]:
    """Returns three lists: prompts, chosen responses and rejected responses, according to the human labels."""
    table = chosen_rejected(pairs, pairs["human_label"] == "a")
    return [table[name].tolist() for name in ("prompt", "chosen", "rejected")]


MIX_LABELS = Stage("mix_labels", 1, ("labeled", "seed"), run, light=True)
