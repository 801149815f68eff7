"""Cross-fitting: annotators are tested on labelled pairs with prompts that they were not trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cwpo.atomic import new_file, write_text
from cwpo.calibration import is_right
from cwpo.errors import InputError
from cwpo.own.bar import bar
from cwpo.own.fit import fit_members, read_curve

FEW, MANY = 3, 5  # folds for few labels (all are tested) and for many (one is tested)
LOOKED_AT = 200  # most training pairs on which training accuracy is measured
TUNED = (1 / 3, 1.0, 3.0)  # factors of the learning rate that tune=true tries


def cross_fit(
    labeled: pd.DataFrame, cfg: Any, scratch: Path, *, device: str, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Tests annotators on labelled pairs that they were not trained on. Returns two tables and first_fold's result.

    First table, for accuracy: the columns of `answers`, a row per tested pair. Each fold is tested by an annotator
    trained on the other folds. With more than cfg.holdout_above labelled pairs, only the first fold is tested.
    Second table, for the learning curve: the same columns, share_trained_on and n_train (number of training pairs). For
    each of the first cfg.curve_folds folds and each share in cfg.curve, one more annotator is trained on that share of
    the other folds' pairs and tested on the fold. Rows of share 1 repeat rows of the first table.
    The first fold's annotator is trained on four fifths of the other folds' pairs; the last fifth decides the epochs,
    and with cfg.tune the learning rate, of all other trainings. A stopped run, started again, reuses results in `scratch`.
    """
    folds, used = fold_counts(len(labeled), cfg)
    fold = folds_by_prompt(labeled["prompt"].tolist(), folds, cfg.seed)
    learned = first_fold(labeled[fold != 0], labeled[fold == 0], cfg, scratch, device=device, say=say)
    cfg = as_learned(cfg, learned)
    whole, curve = [], []
    for k in range(used):
        train, test = labeled[fold != k], labeled[fold == k]
        parts = sorted((*(cfg.curve if k < cfg.curve_folds else ()), 1.0))
        files = {part: scratch / f"fold{k}-{part:g}.parquet" for part in parts}
        for part in parts:
            file, some = files[part], train.sample(n=max(2, round(part * len(train))), random_state=cfg.seed)
            if file.is_file():
                continue
            with bar(f"fold {k + 1} of {used}: {len(some)} labelled pairs", say) as progress:
                annotator = fit_members(some, cfg, file.parent / file.stem, device=device, progress=progress)
            _keep(annotator, test, file, part, len(some))
        tables = [pd.read_parquet(file) for file in files.values()]
        curve += tables if k < cfg.curve_folds else []
        whole.append(tables[-1][["pair_id", "gap", "agree"]])
    return pd.concat(whole, ignore_index=True), pd.concat(curve, ignore_index=True), learned


def _keep(annotator: Any, test: pd.DataFrame, file: Path, part: float, n_train: int) -> None:
    """Writes the annotator's `answers` on `test` to `file`, plus columns share_trained_on (= `part`) and n_train."""
    table = answers(test, annotator.gaps(test))
    with new_file(file) as partial:
        table.assign(share_trained_on=part, n_train=n_train).to_parquet(partial, index=False)


def fold_counts(labels: int, cfg: Any) -> tuple[int, int]:
    """Returns (folds, tested folds) for `labels` labels; above cfg.holdout_above labels, only one fold is tested."""
    many = labels > cfg.holdout_above
    folds = cfg.folds or (MANY if many else FEW)
    return folds, 1 if many else folds


def first_fold(
    train: pd.DataFrame, test: pd.DataFrame, cfg: Any, scratch: Path, *, device: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Trains an annotator on four fifths of `train` until the loss on the other, held-out fifth no longer falls.

    With cfg.tune, trains an annotator at each of several learning rates and keeps the one of lowest held-out loss.
    Writes its answers on `test` (see the function `answers`) to `scratch`. `test` decides nothing in the training.
    Returns learning_rate, epochs (their number until the lowest held-out loss), held_out_loss (a list by epoch), loss
    (a list by logged step), train_accuracy in [0, 1], and tried, {learning rate: lowest held-out loss}.
    """
    file = scratch / "learned.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    given, tried = cfg.annotator.training.learning_rate, []
    deciding = folds_by_prompt(train["prompt"].tolist(), MANY, cfg.seed) == 0
    held_out, train = train[deciding], train[~deciding].sample(frac=1.0, random_state=cfg.seed)
    known = train[train["target"] != 0.5].head(LOOKED_AT)
    if known.empty or (test["target"] == 0.5).all():
        raise InputError(
            f"data={cfg.data}: the labelled pairs with untied votes have too few prompts for training and test to have some each; "
            "label pairs of more prompts"
        )
    for factor in TUNED if cfg.tune else (1.0,):
        rate = float(f"{factor * given:.2g}") if cfg.tune else given
        one = OmegaConf.merge(cfg, {"annotator": {"training": {"learning_rate": rate}}})
        title = f"first fold: {len(train)} labelled pairs, learning rate {rate:g}"
        folder = scratch / f"first-{rate:g}"
        with bar(title, say) as progress:
            annotator = fit_members(train, one, folder, device=device, held_out=held_out, progress=progress)
        curve = read_curve(folder)
        tried.append((min(curve["held_out_loss"]), rate, annotator, curve))
    _, rate, annotator, curve = min(tried, key=lambda each: each[0])
    learned = {
        "learning_rate": rate,
        "epochs": min(cfg.annotator.training.epochs, int(np.argmin(curve["held_out_loss"])) + 1),
        **curve,
        "train_accuracy": float(np.mean(is_right(annotator.gaps(known).mean(axis=0), known["target"]))),
        "tried": {f"{rate:g}": loss for loss, rate, *_ in tried},
    }
    _keep(annotator, test, scratch / "fold0-1.parquet", 1.0, len(train))
    write_text(file, json.dumps(learned))
    return learned


def as_learned(cfg: Any, learned: dict[str, Any]) -> Any:
    """Returns the settings with the learning rate and the number of epochs in `learned`, first_fold's result."""
    training = {name: learned[name] for name in ("learning_rate", "epochs")}
    return OmegaConf.merge(cfg, {"annotator": {"training": training}})


def answers(pairs: pd.DataFrame, gaps: np.ndarray) -> pd.DataFrame:
    """Returns a row per pair: pair_id, gap (score(`a`) - score(`b`), mean over ensemble members), agree (share of
    members whose gap has the sign of the mean; 0 counts as positive). `gaps`: (ensemble members, pairs)."""
    mean = gaps.mean(axis=0)
    agree = ((gaps >= 0) == (mean >= 0)).mean(axis=0)
    return pd.DataFrame({"pair_id": pairs["pair_id"].to_numpy(), "gap": mean, "agree": agree})


def folds_by_prompt(prompts: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Returns each pair's fold, from 0. Pairs with the same prompt share a fold; folds are about equally large."""
    sizes = pd.Series(list(prompts)).value_counts()
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled, fold_of = np.zeros(folds), {}
    for index in sorted(order, key=lambda i: -int(sizes.iloc[i])):  # largest first, equal sizes in random order
        fold = int(filled.argmin())
        fold_of[sizes.index[index]] = fold
        filled[fold] += int(sizes.iloc[index])
    return np.array([fold_of[prompt] for prompt in prompts])
