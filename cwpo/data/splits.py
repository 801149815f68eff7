"""Splits pairs into labeled, unlabeled and test pairs, and pairs held out for a trained gold model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cwpo.errors import InputError


def assign_splits(frame: pd.DataFrame, cfg: Any, drops: Mapping[str, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (pairs with a column `split`, pairs held out for gold). cfg: as in load_pairs; its `seed` decides all draws.

    A column `test` marks the test pairs; at most `data.test_pairs` of them are drawn. Without this column, test prompts
    are drawn, and all pairs of these prompts are test pairs. From the other pairs, at most `data.pairs` are drawn. Of
    these, the share `holdout` is held out for gold. The remaining pairs are put in random order. The first of them, the
    share `human_fraction`, are labeled, so a larger share includes the pairs of a smaller one. All later ones are
    unlabeled. If `unlabeled_fraction` is given, at most this share of the remaining pairs, taken from their end, is
    unlabeled, and the pairs in between are unused.
    Raises InputError for a split of fewer than 2 pairs; the message shows `drops`, the number of rows by reason.
    """
    data, rng = cfg.data, np.random.default_rng([cfg.seed, 2])
    test = frame["test"].to_numpy(dtype=bool) if "test" in frame else _test_prompts(frame, data, rng)
    train = rng.permutation(np.flatnonzero(~test))
    if data.pairs is not None:
        train = train[: data.pairs]
    n_gold = round(cfg.holdout * len(train))
    gold, train = train[:n_gold], train[n_gold:]
    n_labeled = round(cfg.human_fraction * len(train))
    n_unlabeled = len(train) - n_labeled
    if (unlabeled_fraction := getattr(cfg, "unlabeled_fraction", None)) is not None:
        n_unlabeled = min(n_unlabeled, round(unlabeled_fraction * len(train)))
    split = np.full(len(frame), "", dtype=object)
    tested = np.flatnonzero(test)
    if data.test_pairs is not None and len(tested) > data.test_pairs and "test" in frame:
        tested = np.random.default_rng([cfg.seed, 7]).permutation(tested)[: data.test_pairs]
    split[tested], split[train[:n_labeled]] = "test", "labeled"
    split[train[len(train) - n_unlabeled :]] = "unlabeled"
    sizes = {name: int((split == name).sum()) for name in ("labeled", "unlabeled", "test")}
    if cfg.holdout > 0:
        sizes["gold hold-out"] = len(gold)
    small = [f"{name} has {size}" for name, size in sizes.items() if size < 2]
    if small:
        counted = ", ".join(f"{reason} {count}" for reason, count in drops.items() if count)
        raise InputError(
            f"every split needs at least 2 pairs, but {', '.join(small)} (rows: {counted}); "
            "give more pairs, raise data.max_tokens, or change human_fraction, data.test_fraction or gold.holdout"
        )
    pairs = frame.assign(split=split)
    return pairs[pairs["split"] != ""], frame.iloc[np.sort(gold)].assign(split="gold")


def _test_prompts(frame: pd.DataFrame, data: Any, rng: np.random.Generator) -> np.ndarray:
    """Draws prompts until they have data.test_pairs pairs or, if that is null, the share data.test_fraction of pairs.

    Returns a mask over the pairs, (N,), that is True for the pairs of these prompts.
    """
    wanted = data.test_pairs if data.test_pairs is not None else round(data.test_fraction * len(frame))
    codes, prompts = pd.factorize(frame["prompt"])
    order = rng.permutation(len(prompts))
    sizes = np.bincount(codes, minlength=len(prompts))[order]
    taken = order[: np.searchsorted(np.cumsum(sizes), wanted) + 1] if wanted else order[:0]
    return np.isin(codes, taken)


def unseen_prompts(frame: pd.DataFrame, rule: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns the pairs without the test pairs that `rule` drops, and {reason: number of dropped pairs}.

    `any` drops none. `unseen` drops test pairs whose prompt a training pair has too. `unseen_once` drops these and, of
    test pairs with the same prompt, all but the first.
    """
    if rule == "any":
        return frame, {}
    test = frame["test"].to_numpy(dtype=bool)
    seen = test & frame["prompt"].isin(set(frame["prompt"][~test])).to_numpy()
    again = np.zeros(len(frame), dtype=bool)
    if rule == "unseen_once":
        left = frame["prompt"][test & ~seen]
        again[left.index[left.duplicated()]] = True
    drops = {"test_prompt_in_training": int(seen.sum()), "test_prompt_repeated": int(again.sum())}
    return frame[~(seen | again)].reset_index(drop=True), drops
