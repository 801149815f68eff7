"""Trains the annotator: all weights of the weak model, on the human-labelled pairs (section 3.2 i, Table 6, J.9)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwpo.config.schema import POLICY_ANNOTATORS
from cwpo.stages.base import Stage, Work
from cwpo.stages.mix_labels import by_human_label, labeled_pairs

# The keys of conf/annotator that training reads for each kind, beside its name. The stage annotate reads `scoring`.
READS = {
    "bt": ("head_std", "training"),
    "pairrm": ("head_std", "training"),
    "dpo": ("beta", "dpo_training"),
    "sft_dpo": ("beta", "sft_training", "dpo_training"),
}


def run(work: Work) -> dict[str, Any]:
    labeled, config = labeled_pairs(work), work.config
    annotator, path = config.annotator, work.parents.get("weak_model", config.weak)
    if annotator.name in POLICY_ANNOTATORS:
        return fit_policy(work, labeled, path)
    joint = annotator.name == "pairrm"
    if joint:
        _check_lengths(pd.concat([work.table("prepare", "pairs.parquet"), labeled]), path, config)
    return fit_scalar(work, labeled, path, config.weak_revision, annotator.training, annotator.head_std, joint)


def fit_scalar(
    work: Work,
    pairs: pd.DataFrame,
    path: Any,
    revision: str | None,
    training: Any,
    head_std: float,
    joint: bool = False,
) -> dict[str, Any]:
    """Trains the model at `path`, with a scalar head, on human labels: Bradley-Terry or, if `joint`, PairRM."""
    from cwpo.training.fit import Comparisons, Start, fit_annotator

    texts: Any = by_human_label(pairs)
    return fit_annotator(
        work.site(),
        Comparisons(pairs["pair_id"].tolist(), *texts),
        start=Start(path, revision),
        training=training,
        head_std=head_std,
        seed=work.config.seed,
        joint=joint,
    ).summary


def fit_policy(work: Work, pairs: pd.DataFrame, path: Any) -> dict[str, Any]:
    """Trains the model at `path` as a policy: by unweighted DPO on the human labels of `pairs`, after SFT on prompt +
    chosen response if the annotator is sft_dpo (Table 6, App. D).

    Saves the model that DPO starts from in the folder `reference`, the trained one in `model`. Returns the summary
    n_train and train_seconds: the time of SFT, of the reference's log-probs and of DPO.
    """
    from cwpo.models.policy import load_policy, load_tokenizer
    from cwpo.training.fit import Start, fit_preference, fit_sft
    from cwpo.training.saving import wait_for_all

    annotator, revision, seed = work.config.annotator, work.config.weak_revision, work.config.seed
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


def _check_lengths(pairs: pd.DataFrame, path: Any, config: Any) -> None:
    """Raises InputError, before training starts, if a pair of any split is too long for PairRM."""
    from cwpo.models.pairrm import check_joint_lengths, encode_joint
    from cwpo.models.policy import context_length, load_tokenizer

    responses = (pairs[f"response_{side}"].tolist() for side in ("a", "b"))
    rows = encode_joint(load_tokenizer(path, config.weak_revision), pairs["prompt"].tolist(), *responses)
    check_joint_lengths(rows, context_length(path, config.weak_revision), config.weak)


def train_annotator_stage(annotator: str) -> Stage:
    """Returns the stage for a choice of conf/annotator. It declares only the keys that this kind of annotator reads."""
    reads = (f"annotator.{leaf}" for leaf in ("name", *READS[annotator]))
    config = (*reads, "weak", "weak_revision", "seed", "text_version")
    return Stage("train_annotator", 1, config, run, launched=True, early=True, trains="weak")
