"""Annotators of own pairs: trained on labelled pairs, cross-fitted so that every label also serves as a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.batching import PairCollator, encode, encode_pairs, within_budget
from cwpo.models.annotator import load_annotator, new_annotator, score_responses
from cwpo.models.gold import HuggingFace
from cwpo.models.policy import load_tokenizer
from cwpo.training.base import Rows, training_arguments
from cwpo.training.bradley_terry import BradleyTerryTrainer

Gaps = Callable[[pd.DataFrame], np.ndarray]  # score(a) - score(b) of each pair and member, (members, N)


def fit(pairs: pd.DataFrame, cfg: Any, folder: Path, *, seed: int, device: str) -> None:
    """Train a Bradley-Terry annotator on pairs with a target; saves model and tokenizer in `folder`."""
    tokenizer = load_tokenizer(cfg.model, cfg.revision)
    a_wins = pairs["target"] >= 0.5
    rows = encode_pairs(
        tokenizer,
        pairs["prompt"].tolist(),
        pairs["response_a"].where(a_wins, pairs["response_b"]).tolist(),
        pairs["response_b"].where(a_wins, pairs["response_a"]).tolist(),
        target=np.maximum(pairs["target"], 1 - pairs["target"]).tolist(),
    )
    model = new_annotator(
        cfg.model,
        cfg.revision,
        pad_id=tokenizer.pad_token_id,
        head_std=cfg.head_std,
        seed=seed,
        device=device,
    )
    collator = PairCollator(tokenizer.pad_token_id, floats=("target",))
    BradleyTerryTrainer(
        model=model,
        args=training_arguments(
            cfg.training, folder, rows=len(rows), seed=seed, device=device, token_budget=cfg.token_budget
        ),
        train_dataset=Rows(rows),
        data_collator=within_budget(collator, cfg.token_budget),
    ).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fit_members(pairs: pd.DataFrame, cfg: Any, folder: Path, *, device: str) -> Gaps:
    """An annotator for each member of the ensemble, every one from a head and an order of its own; their gaps."""
    paths = [folder / f"member{member}" for member in range(cfg.members)]
    for member, path in enumerate(paths):
        if not (path / "config.json").is_file():
            fit(pairs, cfg, path, seed=cfg.seed + 1000 * member, device=device)
    return gaps_of(paths, cfg, device)


def gaps_of(folders: Sequence[Path], cfg: Any, device: str) -> Gaps:
    """score(a) - score(b) under annotators saved in `folders`."""
    tokenizer = load_tokenizer(folders[0])
    pad_id = tokenizer.pad_token_id
    models = [load_annotator(folder, pad_id=pad_id, device=device) for folder in folders]

    def gaps(pairs: pd.DataFrame) -> np.ndarray:
        rows = [
            encode(tokenizer, pairs["prompt"].tolist(), pairs[f"response_{side}"].tolist()) for side in "ab"
        ]
        scores = [
            [
                score_responses(model, part, pad_id, token_budget=cfg.token_budget).double().numpy()
                for part in rows
            ]
            for model in models
        ]
        return np.stack([a - b for a, b in scores])

    return gaps


def gaps_of_reward_model(cfg: Any, device: str) -> Gaps:
    """score(a) - score(b) under the sequence-classification model that `annotator_path` names."""
    gold = HuggingFace(cfg.annotator_path, cfg.revision, batch_size=32, device=device)

    def gaps(pairs: pd.DataFrame) -> np.ndarray:
        prompts = pairs["prompt"].tolist()
        scores = [gold.rewards(prompts, pairs[f"response_{side}"].tolist()) for side in "ab"]
        return (scores[0] - scores[1])[None]

    return gaps


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


def cross_fit(
    labeled: pd.DataFrame, cfg: Any, scratch: Path, *, device: str, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gaps of labelled pairs under annotators that never saw their prompts, and the learning curve.

    With more than cfg.holdout_above labelled pairs one fold is enough. The first table has pair_id, gap (the mean of the members')
    and spread (their standard deviation); the second fold, n_train and the gap of each pair for cfg.curve's shares of a fold's
    training pairs. Both are kept in `scratch` fold by fold.
    """
    fold = folds_by_prompt(labeled["prompt"].tolist(), cfg.folds, cfg.seed)
    used = 1 if len(labeled) > cfg.holdout_above else cfg.folds
    whole, curve = [], []
    for k in range(used):
        train, test = labeled[fold != k], labeled[fold == k]
        shares = (*(cfg.curve if k < cfg.curve_folds else ()), 1.0)
        for part in sorted(shares):
            file = scratch / f"fold{k}-{part:g}.parquet"
            if not file.is_file():
                some = train.sample(n=max(2, round(part * len(train))), random_state=cfg.seed)
                say(f"fold {k + 1} of {used}: training on {len(some)} labelled pairs, testing on {len(test)}")
                gaps = fit_members(some, cfg, scratch / f"fold{k}-{part:g}", device=device)(test)
                table = pd.DataFrame(
                    {"pair_id": test["pair_id"], "gap": gaps.mean(axis=0), "spread": gaps.std(axis=0)}
                )
                table.assign(fold=k, share=part, n_train=len(some)).to_parquet(file, index=False)
            table = pd.read_parquet(file)
            curve.append(table)
            if part == 1.0:
                whole.append(table[["pair_id", "gap", "spread"]])
    kept = [table for table in curve if table["fold"].iloc[0] < cfg.curve_folds]
    return pd.concat(whole, ignore_index=True), pd.concat(kept, ignore_index=True)
