"""The weak model, fully fine-tuned on the human-labelled pairs (section 3.2 i; Table 6 and J.9 for the other kinds)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.config.schema import POLICY_ANNOTATORS
from cwpo.stages.base import Stage, Work, save, train, training_arguments
from cwpo.stages.mix_labels import by_human_label, labeled_pairs

# What each kind of annotator reads of its config group, beside its name. `scoring` is read when pairs are annotated.
READS = {
    "bt": ("head_std", "training"),
    "pairrm": ("head_std", "training"),
    "dpo": ("beta", "dpo_training"),
    "sft_dpo": ("beta", "sft_training", "dpo_training"),
}


def run(work: Work) -> dict[str, Any]:
    labeled = labeled_pairs(work)
    config = work.config
    path = work.parents.get("weak_model", config.weak)
    if config.annotator.name in POLICY_ANNOTATORS:
        from cwpo.stages.policy_annotator import fit_policy

        return fit_policy(
            work,
            labeled,
            path=path,
            revision=config.weak_revision,
            annotator=config.annotator,
            seed=config.seed,
        )
    joint = config.annotator.name == "pairrm"
    if joint:
        pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet")
        _check_lengths(pd.concat([pairs, labeled]), path, config)
    return fit_annotator(
        work,
        labeled,
        path=path,
        revision=config.weak_revision,
        head_std=config.annotator.head_std,
        training=config.annotator.training,
        seed=config.seed,
        joint=joint,
    )


def fit_annotator(
    work: Work,
    pairs: pd.DataFrame,
    *,
    path: Any,
    revision: str | None,
    head_std: float,
    training: Any,
    seed: int,
    joint: bool = False,
) -> dict[str, Any]:
    """Training of a scalar head on the human labels of `pairs`; saves model and tokenizer under `model`.

    Bradley-Terry on one response at a time, or with `joint` PairRM on both at once.
    """
    from cwpo.data.batching import PairCollator, encode_pairs, named, within_budget
    from cwpo.models.annotator import new_annotator
    from cwpo.models.pairrm import encode_both_orders
    from cwpo.models.policy import load_tokenizer
    from cwpo.training.base import Curve, Rows
    from cwpo.training.bradley_terry import BradleyTerryTrainer
    from cwpo.training.pairrm import PairRMTrainer

    tokenizer = load_tokenizer(path, revision)
    rows: Any = (encode_both_orders if joint else encode_pairs)(tokenizer, *by_human_label(pairs))
    named(rows, pairs["pair_id"].tolist())

    def start(device: str = "cpu") -> Any:
        pad_id = tokenizer.pad_token_id
        return new_annotator(path, revision, pad_id=pad_id, head_std=head_std, seed=seed, device=device)

    trainer = (PairRMTrainer if joint else BradleyTerryTrainer)(
        model=start(work.loading_device),
        args=training_arguments(work, training, rows=len(rows), seed=seed),
        train_dataset=Rows(rows),
        data_collator=within_budget(PairCollator(tokenizer.pad_token_id), work.token_budget),
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    seconds = train(work, trainer)
    save(work, trainer, tokenizer, "model", start)
    return {"n_train": len(rows), "train_seconds": round(seconds, 3)}


def _check_lengths(pairs: pd.DataFrame, path: Any, config: Any) -> None:
    """InputError where PairRM could not read some pair, of any split: found before training, not after."""
    from cwpo.models.pairrm import check_joint_lengths, encode_joint
    from cwpo.models.policy import context_length, load_tokenizer

    responses = (pairs[f"response_{side}"].tolist() for side in ("a", "b"))
    rows = encode_joint(load_tokenizer(path, config.weak_revision), pairs["prompt"].tolist(), *responses)
    check_joint_lengths(rows, context_length(path, config.weak_revision), config.weak)


def train_annotator_stage(annotator: str) -> Stage:
    """The stage for a choice of conf/annotator. It declares only what that kind of annotator reads."""
    reads = (f"annotator.{leaf}" for leaf in ("name", *READS[annotator]))
    config = (*reads, "weak", "weak_revision", "seed", "text_version")
    return Stage("train_annotator", 1, config, run, launched=True, early=True, trains="weak")
