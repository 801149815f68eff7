"""The weak model trained as a policy on the human-labelled pairs: DPO, or SFT and then DPO (Table 6, App. D)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwpo.stages.base import Work, save, train, training_arguments
from cwpo.stages.mix_labels import by_human_label


def fit_policy(
    work: Work, pairs: pd.DataFrame, *, path: Any, revision: str | None, annotator: Any, seed: int
) -> dict[str, Any]:
    """Unweighted DPO on the human labels of `pairs`, after SFT on prompt + chosen where annotator.name is sft_dpo.

    Saves the model that DPO starts from under `reference`, the trained one under `model`. `train_seconds` is all of SFT
    and DPO, the reference's log-probs included.
    """
    from cwpo.models.policy import load_policy, load_tokenizer
    from cwpo.training.base import Curve
    from cwpo.training.preference import PreferenceTrainer
    from cwpo.training.saving import wait_for_all

    prompts, chosen, rejected = by_human_label(pairs)
    tokenizer = load_tokenizer(path, revision)
    seconds, steps = 0.0, 0
    if annotator.name == "sft_dpo":
        seconds, steps = _fit_sft(
            work,
            pairs["pair_id"].tolist(),
            prompts,
            chosen,
            path=path,
            revision=revision,
            training=annotator.sft_training,
            seed=seed,
        )
    elif work.first:
        load_policy(path, revision).save_pretrained(work.out / "reference")
        tokenizer.save_pretrained(work.out / "reference")
    wait_for_all()

    def log(values: Mapping[str, float], step: int | None = None) -> None:
        work.tracker.log(values, steps + (step or 0))

    def start(device: str = "cpu") -> Any:
        return load_policy(work.out / "reference", device=device)

    started = time.perf_counter()
    trainer = PreferenceTrainer(
        model=start(work.loading_device),
        args=training_arguments(work, annotator.dpo_training, rows=len(pairs), seed=seed),
        train_dataset=[
            {"pair_id": pair_id, "prompt": prompt, "chosen": better, "rejected": worse, "weight": 1.0}
            for pair_id, prompt, better, worse in zip(
                pairs["pair_id"], prompts, chosen, rejected, strict=True
            )
        ],
        processing_class=tokenizer,
        token_budget=work.token_budget,
        objective="dpo",
        beta=annotator.beta,
        callbacks=[Curve(log, work.progress)],
    )
    seconds += time.perf_counter() - started
    seconds += train(work, trainer)
    save(work, trainer, tokenizer, "model", start)
    return {"n_train": len(pairs), "train_seconds": round(seconds, 3)}


def _fit_sft(
    work: Work,
    pair_ids: list[str],
    prompts: list[str],
    chosen: list[str],
    *,
    path: Any,
    revision: str | None,
    training: Any,
    seed: int,
) -> tuple[float, int]:
    """SFT of the model at `path`, saved under `reference`; returns its seconds and its optimiser steps."""
    from cwpo.data.batching import SequenceCollator, encode, named, within_budget
    from cwpo.models.policy import load_policy, load_tokenizer
    from cwpo.training.base import Curve, Rows
    from cwpo.training.sft import SFTTrainer

    def log(values: Mapping[str, float], step: int | None = None) -> None:
        work.tracker.log({f"sft/{name}": value for name, value in values.items()}, step)

    tokenizer = load_tokenizer(path, revision)

    def start(device: str = "cpu") -> Any:
        return load_policy(path, revision, dropout=True, device=device)

    rows = [{"ids": ids, "start": at} for ids, at in encode(tokenizer, prompts, chosen)]
    named(rows, pair_ids)
    trainer = SFTTrainer(
        model=start(work.loading_device),
        args=training_arguments(work, training, rows=len(rows), seed=seed, part="sft"),
        train_dataset=Rows(rows),
        data_collator=within_budget(SequenceCollator(tokenizer.pad_token_id), work.token_budget),
        callbacks=[Curve(log, work.progress)],
    )
    seconds = train(work, trainer)
    save(work, trainer, tokenizer, "reference", start)
    return seconds, trainer.state.global_step
