"""Trains the weak model as a policy on the human-labelled pairs: by DPO, or by SFT and then DPO (Table 6, App. D)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwpo.stages.base import Work
from cwpo.stages.mix_labels import by_human_label


def fit_policy(
    work: Work, pairs: pd.DataFrame, *, path: Any, revision: str | None, annotator: Any, seed: int
) -> dict[str, Any]:
    """Trains by unweighted DPO on the human labels of `pairs`. An sft_dpo annotator gets SFT on prompt + chosen first.

    Saves the model that DPO starts from in the folder `reference`, the trained one in `model`. Returns the summary
    n_train and train_seconds: the time of SFT, of the reference's log-probs and of DPO.
    """
    from cwpo.models.policy import load_policy, load_tokenizer
    from cwpo.training.fit import Start, fit_preference, fit_sft
    from cwpo.training.saving import wait_for_all

    names, (prompts, chosen, rejected) = pairs["pair_id"].tolist(), by_human_label(pairs)
    start, seconds, steps = Start(path, revision), 0.0, 0

    def log_sft(values: Mapping[str, float], step: int) -> None:
        work.tracker.log({f"sft/{name}": value for name, value in values.items()}, step)

    if annotator.name == "sft_dpo":
        site = work.site("reference", checkpoints="sft", log=log_sft)
        tuned = fit_sft(site, names, prompts, chosen, start=start, training=annotator.sft_training, seed=seed)
        seconds, steps = tuned.seconds, tuned.steps
    elif work.first:
        load_policy(path, revision).save_pretrained(work.out / "reference")
        load_tokenizer(path, revision).save_pretrained(work.out / "reference")
    wait_for_all()
    columns = {"pair_id": names, "prompt": prompts, "chosen": chosen, "rejected": rejected, "weight": 1.0}
    fitted = fit_preference(
        work.site(log=lambda values, step: work.tracker.log(values, steps + step)),
        pd.DataFrame(columns).to_dict("records"),
        start=Start(work.out / "reference"),
        training=annotator.dpo_training,
        seed=seed,
        objective="dpo",
        beta=annotator.beta,
    )
    seconds += fitted.setup_seconds + fitted.seconds
    return {"n_train": len(pairs), "train_seconds": round(seconds, 3)}
