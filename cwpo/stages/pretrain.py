"""Pretrains a tiny language model on texts of the synthetic world and saves it as an ordinary checkpoint."""

from typing import Any

from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.toy import pretrain

    config = work.config
    model, tokenizer = pretrain(
        config.model.removeprefix("world/"),
        sequences=config.world.sequences,
        batch_size=config.world.batch_size,
        learning_rate=config.world.learning_rate,
        seed=config.world.seed,
        progress=lambda step, steps, loss: work.progress(step, steps),
    )
    model.save_pretrained(work.out / "model")
    tokenizer.save_pretrained(work.out / "model")
    return {"parameters": model.num_parameters()}


PRETRAIN = Stage("pretrain", 1, ("world", "model", "world_version"), run, early=True, output="model")
