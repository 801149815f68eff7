"""Mixes D_unlabeled of two data sets: the pairs on which the arms of Tables 24 and 25 align."""

import shutil
from typing import Any

import numpy as np
import pandas as pd

from cwpo.stages.base import Stage, Work

EQ19_SHARE = 0.3  # share of the arm's own D_unlabeled that is kept (Eq. 19)


def run(work: Work) -> dict[str, Any]:
    config = work.config
    own, other = (work.table(parent, "pairs.parquet") for parent in ("prepare", "other"))
    other = other[~other["pair_id"].isin(work.table("prepare", "held_out.parquet")["pair_id"])]
    pairs = mixed(own, other, config.labeled.unlabeled, np.random.default_rng([config.seed, 8]))
    pairs.to_parquet(work.out / "pairs.parquet", index=False)
    shutil.copyfile(work.parents["prepare"] / "held_out.parquet", work.out / "held_out.parquet")
    return {"pairs": pairs["split"].value_counts().to_dict()}


def mixed(own: pd.DataFrame, other: pd.DataFrame, rule: str, generator: np.random.Generator) -> pd.DataFrame:
    """Returns the labeled and test pairs of `own`, then unlabeled pairs of both data sets, these sorted by pair_id.

    rule="both" takes all unlabeled pairs of both, so swapping `own` and `other` gives the same mix (Table 24).
    rule="eq19" takes all unlabeled pairs of `other`, and a random share EQ19_SHARE of those of `own` (Eq. 19).
    Pairs of `other` that `own` has in any split are left out.
    """
    unlabeled = own["split"] == "unlabeled"
    kept = own[unlabeled]
    if rule == "eq19":
        kept = kept.iloc[generator.permutation(len(kept))[: round(EQ19_SHARE * len(kept))]]
    others = other[(other["split"] == "unlabeled") & ~other["pair_id"].isin(own["pair_id"])]
    pool = pd.concat([kept, others]).sort_values("pair_id")
    return pd.concat([own[~unlabeled], pool], ignore_index=True)


MIX_UNLABELED = Stage("mix_unlabeled", 1, ("labeled.unlabeled", "seed"), run, light=True)
