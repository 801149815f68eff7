"""The weak model, fully fine-tuned on the human-labelled pairs with a scalar head (section 3.2 i)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import labeled_pairs


def run(work: Work) -> dict[str, Any]:
    config = work.config
    path = work.parents.get("weak_model", config.weak)
    return fit_annotator(
        work,
        labeled_pairs(work),
        path=path,
        revision=config.weak_revision,
        head_std=config.annotator.head_std,
        training=config.annotator.training,
        seed=config.seed,
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
) -> dict[str, Any]:
    """Bradley-Terry training on the human labels of `pairs`; saves model and tokenizer under `model`."""
    from cwpo.data.batching import PairCollator, encode_pairs
    from cwpo.models.annotator import new_annotator
    from cwpo.models.policy import load_tokenizer
    from cwpo.training.base import Curve, Rows, training_arguments
    from cwpo.training.bradley_terry import BradleyTerryTrainer

    tokenizer = load_tokenizer(path, revision)
    a_wins = pairs["human_label"] == "a"
    rows = encode_pairs(
        tokenizer,
        pairs["prompt"].tolist(),
        pairs["response_a"].where(a_wins, pairs["response_b"]).tolist(),
        pairs["response_b"].where(a_wins, pairs["response_a"]).tolist(),
    )
    model = new_annotator(
        path, revision, pad_id=tokenizer.pad_token_id, head_std=head_std, seed=seed, device=work.device
    )
    trainer = BradleyTerryTrainer(
        model=model,
        args=training_arguments(training, work.out, rows=len(rows), seed=seed, device=work.device),
        train_dataset=Rows(rows),
        data_collator=PairCollator(tokenizer.pad_token_id),
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    result = trainer.train()
    model.save_pretrained(work.out / "model")
    tokenizer.save_pretrained(work.out / "model")
    return {"n_train": len(rows), "train_seconds": round(result.metrics["train_runtime"], 3)}


TRAIN_ANNOTATOR = Stage("train_annotator", 1, ("annotator", "weak", "weak_revision", "seed"), run)
