"""Trains the annotator: all weights of the weak model, on the human-labelled pairs (section 3.2 i, Table 6, J.9)."""

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
    annotator, revision = config.annotator, config.weak_revision
    path = work.parents.get("weak_model", config.weak)
    if annotator.name in POLICY_ANNOTATORS:
        from cwpo.stages.policy_annotator import fit_policy

        return fit_policy(work, labeled, path=path, revision=revision, annotator=annotator, seed=config.seed)
    joint = annotator.name == "pairrm"
    if joint:
        _check_lengths(pd.concat([work.table("prepare", "pairs.parquet"), labeled]), path, config)
    return fit_scalar(work, labeled, path, revision, annotator.training, annotator.head_std, joint)


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
