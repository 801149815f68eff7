"""Fine-tunes the strong model on prompt + chosen response of the arm's own pairs (section 4.1)."""

from typing import Any

from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.training.fit import Start, fit_sft

    config = work.config
    table = work.table("select", "selected.parquet")
    path = work.parents.get("strong_model", config.strong)
    return fit_sft(
        work.site(),
        *(table[name].tolist() for name in ("pair_id", "prompt", "chosen")),
        start=Start(path, config.strong_revision, config.strong_chat),
        training=config.sft,
        lora=config.lora,
        seed=config.seed,
    ).summary


READS = ("sft", "lora", "strong", "strong_revision", "strong_chat", "seed", "text_version")
SFT = Stage("sft", 1, READS, run, launched=True, trains="strong")
