"""Weighted preference optimisation of the strong model, starting from its SFT model (Eq. 8 to 11)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work, save, train, training_arguments
from cwpo.stages.lineage import arm_facts, lineage


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.card import training_metrics, write_card
    from cwpo.models.policy import add_lora, load_policy, load_tokenizer
    from cwpo.training.base import Curve
    from cwpo.training.preference import PreferenceTrainer

    config = work.config
    table = pd.read_parquet(work.parents["weight"] / "preferences.parquet").merge(
        pd.read_parquet(work.parents["reference"] / "reference.parquet"), on="pair_id", validate="one_to_one"
    )
    folder = work.parents["sft"] / "model"
    tokenizer = load_tokenizer(folder)

    def start(device: str = "cpu") -> Any:
        model = load_policy(folder, device=device)
        if not config.lora.enabled:
            return model
        return add_lora(
            model,
            r=config.lora.r,
            alpha=config.lora.alpha,
            dropout=0.0,
            targets=config.lora.targets,
            seed=config.seed,
        )

    columns = ["pair_id", "prompt", "chosen", "rejected", "weight", "chosen_logp", "rejected_logp"]
    trainer = PreferenceTrainer(
        model=start(work.loading_device),
        args=training_arguments(work, config.alignment, rows=len(table), seed=config.seed),
        train_dataset=table[columns].to_dict("records"),
        processing_class=tokenizer,
        objective=config.objective.name,
        beta=config.objective.beta,
        flip_rate=config.objective.flip_rate,
        average_logps=config.objective.average_logps,
        token_budget=work.token_budget,
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    seconds = train(work, trainer)
    save(work, trainer, tokenizer, "model", start)
    summary = {"n_train": len(table), "train_seconds": round(seconds, 3)}
    if not work.first:
        return summary
    manifests = lineage(work.parents.values())
    objective = f"{config.objective.name}, beta {config.objective.beta}, {config.alignment.epochs} epochs"
    write_card(
        work.out / "model",
        manifests["sft"]["config"]["strong"] if "sft" in manifests else None,
        arm_facts(manifests) | {"objective": objective, "seed": config.seed},
        {"pairs": len(table), "mean weight": round(float(table["weight"].mean()), 4)}
        | training_metrics(trainer.state.log_history),
    )
    return summary


ALIGN = Stage(
    "align",
    1,
    ("alignment", "objective", "lora", "seed", "text_version"),
    run,
    launched=True,
    trains="strong",
)
