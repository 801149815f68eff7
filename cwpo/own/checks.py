"""What is wrong with the settings of the commands for own pairs, found before any work and reported at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from omegaconf import OmegaConf

from cwpo.checks.settings import device_problems, nearest, training_problems
from cwpo.errors import InputError
from cwpo.models.annotator import classifier_problem
from cwpo.models.policy import checkpoint_problem, hub_problem
from cwpo.models.reward_models import gold_problem
from cwpo.own.fit import KINDS, checkpoint_of, is_ours
from cwpo.own.folder import occupied

WEIGHTINGS = ("uniform", "c1", "c2", "c3", "c4")
OBJECTIVES = ("dpo", "ipo", "rdpo")
CHAT_CHOICES = ("auto", "true", "false")


def check_annotate(cfg: Any) -> None:
    """InputError with every problem of the settings of scripts/annotate.py; loads no weights."""
    if cfg.show is not None:
        wrong = [*ranges(cfg, "positive", "show"), *annotate_values(cfg)]
        if wrong:
            raise InputError(wrong)
        return
    problems = missing(cfg)
    if problems:
        raise InputError(problems)
    made = cfg.annotator
    if (made.path is None) == (cfg.model is None):
        problems.append(
            "name a model to train, model=..., or a trained reward model, annotator.path=..."
            if cfg.model is None
            else f"model={cfg.model} would be trained and annotator.path={made.path} is trained already; name one of them"
        )
    problems += annotate_values(cfg)
    if made.kind == "pairrm" and cfg.ties == "soft":
        problems.append(
            "annotator.kind=pairrm learns from 0 and 1 only; use ties=drop, or annotator.kind=bt with ties=soft"
        )
    if (taken := occupied(cfg.out, "report.json")) is not None:
        problems.append(taken)
    problems += checkpoints(
        {
            "model": cfg.model,
            "annotator.path": made.path and checkpoint_of(made.path),
        },
        cfg.revision,
        scoring=() if is_ours(made.path) else ("annotator.path",),
        heads=("model",),
        ask_hub=not problems,
    )
    if problems:
        raise InputError(problems)


def check_align(cfg: Any) -> None:
    """InputError with every problem of the settings of scripts/align.py; loads no weights."""
    problems = missing(cfg)
    if problems:
        raise InputError(problems)
    problems += align_values(cfg)
    if cfg.lora.enabled and find_spec("peft") is None:
        problems.append(
            "lora.enabled=true needs the package peft; pip install 'cwpo[lora]', or use lora.enabled=false"
        )
    if (taken := occupied(cfg.out, "alignment.json")) is not None:
        problems.append(taken)
    problems += checkpoints({"model": cfg.model}, cfg.revision, ask_hub=not problems)
    if problems:
        raise InputError(problems)


def check_compare(cfg: Any) -> None:
    """InputError with every problem of the settings of scripts/compare.py; loads no weights."""
    problems = missing(cfg)
    if problems:
        raise InputError(problems)
    problems += ranges(cfg, "positive", "max_new_tokens temperature batch_size threads")
    problems += [*ranges(cfg, "at least 2", "most"), *ranges(cfg, "at least 0", "seed"), *_chat(cfg, "chat")]
    if (taken := occupied(cfg.out, "comparison.json")) is not None:
        problems.append(taken)
    models = {"before": cfg.before, "after": cfg.after}
    judges = {} if cfg.gold in ("oracle", "judge") else {"gold": checkpoint_of(cfg.gold)}
    problems += checkpoints(models, None, ask_hub=not problems)
    problems += checkpoints(
        judges, cfg.revision, scoring=() if is_ours(cfg.gold) else ("gold",), ask_hub=not problems
    )
    if problems:
        raise InputError(problems)


def annotate_values(cfg: Any, at: str = "") -> list[str]:
    """Single values of the settings of scripts/annotate.py that cannot be; `at` is the section they are in, with its dot."""
    here = OmegaConf.select(cfg, at[:-1]) if at else cfg
    problems = [
        *among(cfg, f"{at}ties", ("drop", "soft")),
        *among(cfg, f"{at}positive", (None, "a", "b")),
        *among(cfg, f"{at}weighting", WEIGHTINGS),
        *among(cfg, f"{at}annotator.kind", KINDS),
        *ranges(cfg, "positive", "max_tokens annotator.head_std threads token_budget", at),
        *ranges(cfg, "at least 1", "annotator.members curve_folds", at),
        *ranges(cfg, "at least 2", "folds", at),
        *ranges(cfg, "at least 0", "seed holdout_above", at),
        *training(cfg, f"{at}annotator.training"),
        *_device(cfg, f"{at}device"),
        *_chat(cfg, f"{at}chat"),
    ]
    if not 0.5 < here.target_accuracy < 1:
        problems.append(f"{at}target_accuracy={here.target_accuracy} must be in (0.5, 1)")
    if any(not 0 < part < 1 for part in here.curve):
        problems.append(f"{at}curve={list(here.curve)} must be shares of the training pairs, in (0, 1)")
    return problems


def align_values(cfg: Any, at: str = "") -> list[str]:
    """The same of scripts/align.py."""
    here = OmegaConf.select(cfg, at[:-1]) if at else cfg
    problems = [
        *among(cfg, f"{at}objective", OBJECTIVES),
        *among(cfg, f"{at}positive", (None, "a", "b")),
        *ranges(cfg, "positive", "beta max_tokens threads token_budget lora.r lora.alpha", at),
        *ranges(cfg, "at least 0", "seed sft.epochs", at),
        *training(cfg, f"{at}alignment"),
        *(training(cfg, f"{at}sft") if here.sft.epochs else training(cfg, f"{at}sft", ("epochs",))),
        *_device(cfg, f"{at}device"),
        *_chat(cfg, f"{at}chat"),
    ]
    if not 0 <= here.lora.dropout < 1:
        problems.append(f"{at}lora.dropout={here.lora.dropout} must be in [0, 1)")
    if not 0 < here.keep <= 1:
        problems.append(f"{at}keep={here.keep} must be in (0, 1]")
    if not 0 <= here.flip_rate < 0.5:
        problems.append(f"{at}flip_rate={here.flip_rate} must be in [0, 0.5)")
    return problems


def _device(cfg: Any, key: str) -> list[str]:
    return [f"{key.removesuffix('device')}{line}" for line in device_problems(OmegaConf.select(cfg, key))]


def _chat(cfg: Any, key: str) -> list[str]:
    value = str(OmegaConf.select(cfg, key)).lower()
    return [] if value in CHAT_CHOICES else [f"{key}={value} is unknown; {nearest(value, CHAT_CHOICES)}"]


def missing(cfg: Any) -> list[str]:
    return [f"{key} is required: set {key}=..." for key in sorted(OmegaConf.missing_keys(cfg))]


def among(cfg: Any, key: str, valid: Iterable[str | None]) -> list[str]:
    value = OmegaConf.select(cfg, key)
    return [] if value in valid else [f"{key}={value} is unknown; {nearest(value, valid)}"]


def ranges(cfg: Any, what: str, keys: str, at: str = "") -> list[str]:
    """`key=value must be <what>` for each of the keys, separated by blanks, in the section `at`, whose value is a number and
    is not.
    """
    fine = (lambda v: v > 0) if what == "positive" else (lambda v: v >= int(what.rpartition(" ")[2]))
    values = {f"{at}{key}": OmegaConf.select(cfg, f"{at}{key}") for key in keys.split()}
    return [
        f"{key}={value} must be {what}"
        for key, value in values.items()
        if value is not None and not (math.isfinite(value) and fine(value))
    ]


def training(cfg: Any, group: str, free: Sequence[str] = ()) -> list[str]:
    """Problems of a TrainingConfig, but for its `free` keys."""
    problems = training_problems(cfg, group)
    return [line for line in problems if not line.startswith(tuple(f"{group}.{leaf}=" for leaf in free))]


def checkpoints(
    named: Mapping[str, str | None],
    revision: str | None,
    *,
    scoring: Iterable[str] = (),
    heads: Iterable[str] = (),
    ask_hub: bool,
) -> list[str]:
    """Problems of the models named by these keys; those of `scoring` must return one score, those of `heads` are given a
    scalar head. A hub id is asked for its config."""
    problems = []
    for key, path in named.items():
        if path is None:
            continue
        problem = checkpoint_problem(path, key) or (hub_problem(path, revision, key) if ask_hub else None)
        if problem is None and ask_hub and key in scoring:
            problem = gold_problem(path, revision, key)
        if problem is None and ask_hub and key in heads:
            problem = classifier_problem(path, revision, key)
        problems += [problem] if problem else []
    return problems
