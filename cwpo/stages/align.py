"""Weighted preference optimisation of the strong model, starting from its SFT model (Eq. 8 to 11)."""

from typing import Any

import pandas as pd

from cwpo.stages.base import Stage, Work
from cwpo.stages.lineage import arm_facts, lineage

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "chosen_logp", "rejected_logp"]


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.card import training_metrics, write_card
    from cwpo.training.fit import Start, fit_preference

    config = work.config
    table = pd.read_parquet(work.parents["weight"] / "preferences.parquet").merge(
        pd.read_parquet(work.parents["reference"] / "reference.parquet"), on="pair_id", validate="one_to_one"
    )
    fitted = fit_preference(
        work.site(),
        table[COLUMNS].to_dict("records"),
        start=Start(work.parents["sft"] / "model"),
        training=config.alignment,
        lora=config.lora,
        seed=config.seed,
        objective=config.objective.name,
        beta=config.objective.beta,
        flip_rate=config.objective.flip_rate,
        average_logps=config.objective.average_logps,
    )
    if not work.first:
        return fitted.summary
    manifests = lineage(work.parents.values())
    objective = f"{config.objective.name}, beta {config.objective.beta}, {config.alignment.epochs} epochs"
    write_card(
        work.out / "model",
        manifests["sft"]["config"]["strong"] if "sft" in manifests else None,
        arm_facts(manifests) | {"objective": objective, "seed": config.seed},
        {"pairs": len(table), "mean weight": round(float(table["weight"].mean()), 4)}
        | training_metrics(fitted.curve),
    )
    return fitted.summary


ALIGN = Stage(
    "align",
    1,
    ("alignment", "objective", "lora", "seed", "text_version"),
    run,
    launched=True,
    trains="strong",
)
