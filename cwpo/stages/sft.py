"""The strong model, fine-tuned on prompt + chosen response of the arm's own pairs (section 4.1)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work, training_arguments


def run(work: Work) -> dict[str, Any]:
    from cwpo.data.batching import SequenceCollator, encode, named, within_budget
    from cwpo.models.policy import add_lora, load_policy, load_tokenizer
    from cwpo.training.base import Curve, Rows
    from cwpo.training.sft import SFTTrainer

    config = work.config
    table = pd.read_parquet(work.parents["select"] / "selected.parquet")
    path = work.parents.get("strong_model", config.strong)
    tokenizer = load_tokenizer(path, config.strong_revision, chat=config.strong_chat)
    model = load_policy(path, config.strong_revision, dropout=True, device=work.device)
    if config.lora.enabled:
        model = add_lora(model, r=config.lora.r, alpha=config.lora.alpha, dropout=config.lora.dropout)
    rows = [
        {"ids": ids, "start": start}
        for ids, start in encode(tokenizer, table["prompt"].tolist(), table["chosen"].tolist())
    ]
    named(rows, table["pair_id"].tolist())
    trainer = SFTTrainer(
        model=model,
        args=training_arguments(work, config.sft, rows=len(rows), seed=config.seed),
        train_dataset=Rows(rows),
        data_collator=within_budget(SequenceCollator(tokenizer.pad_token_id), work.token_budget),
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    result = trainer.train()
    if config.lora.enabled:
        model = model.merge_and_unload()
    model.save_pretrained(work.out / "model")
    tokenizer.save_pretrained(work.out / "model")
    return {"n_train": len(rows), "train_seconds": round(result.metrics["train_runtime"], 3)}


SFT = Stage("sft", 1, ("sft", "lora", "strong", "strong_revision", "strong_chat", "seed"), run)
