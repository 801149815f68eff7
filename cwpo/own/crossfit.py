"""Cross-fitting: every label also serves as a test, of an annotator that never saw its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.own.fit import fit_members


def cross_fit(
    labeled: pd.DataFrame, cfg: Any, scratch: Path, *, device: str, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What annotators say of labelled pairs whose prompts they never saw, and the learning curve.

    With more than cfg.holdout_above labelled pairs one fold is enough. The first table has pair_id, gap (the members' mean) and
    agree (the share of members that label as their mean does); the second share, n_train and the gap of each pair for cfg.curve's
    shares of the training pairs of the first cfg.curve_folds folds. Both are kept in `scratch` fold by fold.
    """
    fold = folds_by_prompt(labeled["prompt"].tolist(), cfg.folds, cfg.seed)
    used = 1 if len(labeled) > cfg.holdout_above else cfg.folds
    whole, curve = [], []
    for k in range(used):
        train, test = labeled[fold != k], labeled[fold == k]
        for part in sorted((*(cfg.curve if k < cfg.curve_folds else ()), 1.0)):
            file = scratch / f"fold{k}-{part:g}.parquet"
            if not file.is_file():
                some = train.sample(n=max(2, round(part * len(train))), random_state=cfg.seed)
                say(f"fold {k + 1} of {used}: training on {len(some)} labelled pairs, testing on {len(test)}")
                annotator = fit_members(some, cfg, scratch / f"fold{k}-{part:g}", device=device)
                found = said(test, annotator.gaps(test))
                found.assign(share_trained_on=part, n_train=len(some)).to_parquet(file, index=False)
            table = pd.read_parquet(file)
            if k < cfg.curve_folds:
                curve.append(table)
            if part == 1.0:
                whole.append(table[["pair_id", "gap", "agree"]])
    return pd.concat(whole, ignore_index=True), pd.concat(curve or whole, ignore_index=True)


def said(pairs: pd.DataFrame, gaps: np.ndarray) -> pd.DataFrame:
    """pair_id, gap and agree of pairs from the members' gaps, (members, N)."""
    mean = gaps.mean(axis=0)
    agree = ((gaps >= 0) == (mean >= 0)).mean(axis=0)
    return pd.DataFrame({"pair_id": pairs["pair_id"].to_numpy(), "gap": mean, "agree": agree})


def folds_by_prompt(prompts: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """A fold, (N,), for each pair; pairs of one prompt share theirs, and folds are about equally large."""
    sizes = pd.Series(list(prompts)).value_counts()
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled, fold_of = np.zeros(folds), {}
    for index in sorted(order, key=lambda i: -int(sizes.iloc[i])):  # stable: ties stay in random order
        fold = int(filled.argmin())
        fold_of[sizes.index[index]] = fold
        filled[fold] += int(sizes.iloc[index])
    return np.array([fold_of[prompt] for prompt in prompts])
