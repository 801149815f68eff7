"""The strong model, fine-tuned on prompt + chosen response of the arm's own pairs (section 4.1)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work, save, train, training_arguments


def run(work: Work) -> dict[str, Any]:
    from cwpo.data.batching import SequenceCollator, encode, named, within_budget
    from cwpo.models.policy import add_lora, load_policy, load_tokenizer
    from cwpo.training.base import Curve, Rows
    from cwpo.training.sft import SFTTrainer

    config = work.config
    table = pd.read_parquet(work.parents["select"] / "selected.parquet")
    path = work.parents.get("strong_model", config.strong)
    tokenizer = load_tokenizer(path, config.strong_revision, chat=config.strong_chat)

    def start(device: str = "cpu") -> Any:
        model = load_policy(path, config.strong_revision, dropout=True, device=device)
        if not config.lora.enabled:
            return model
        return add_lora(
            model,
            r=config.lora.r,
            alpha=config.lora.alpha,
            dropout=config.lora.dropout,
            targets=config.lora.targets,
            seed=config.seed,
        )

    rows = [
        {"ids": ids, "start": at}
        for ids, at in encode(tokenizer, table["prompt"].tolist(), table["chosen"].tolist())
    ]
    named(rows, table["pair_id"].tolist())
    trainer = SFTTrainer(
        model=start(work.loading_device),
        args=training_arguments(work, config.sft, rows=len(rows), seed=config.seed),
        train_dataset=Rows(rows),
        data_collator=within_budget(SequenceCollator(tokenizer.pad_token_id), work.token_budget),
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    seconds = train(work, trainer)
    save(work, trainer, tokenizer, "model", start)
    return {"n_train": len(rows), "train_seconds": round(seconds, 3)}


SFT = Stage(
    "sft",
    1,
    ("sft", "lora", "strong", "strong_revision", "strong_chat", "seed", "text_version"),
    run,
    launched=True,
    trains="strong",
)
