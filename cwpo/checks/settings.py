"""Everything wrong with a configuration, found before any work and reported at once."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from cwpo.checks.checkpoints import HEAD_SIZE as HEAD_SIZE
from cwpo.checks.checkpoints import checkpoint_problems as _models
from cwpo.checks.checkpoints import gold_problems as _gold
from cwpo.checks.leaves import unreadable, with_leaf_problems
from cwpo.checks.machine import machine_problems
from cwpo.checks.methods import LABELS, REWARDS, method_problems, online_problems
from cwpo.config.assets import is_hub_id
from cwpo.config.schema import CONF, MODEL_GOLDS, SYNTHETIC_GOLDS, TRAININGS, Config
from cwpo.errors import InputError
from cwpo.runtime import PRECISIONS

CHOICES = {
    "data.source": ("world", "hub", "jsonl"),
    "method.labels": LABELS,
    "method.pairs": ("unlabeled", "labeled", "all"),
    "method.sft_labels": ("own", "human"),
    "method.selection.kind": ("all", "top_fraction", "threshold"),
    "weighting.name": ("uniform", "c1", "c2", "c3", "c4", "c1_normalized", "c1_permuted"),
    "objective.name": ("dpo", "ipo", "rdpo"),
    "annotator.name": ("bt", "dpo", "sft_dpo", "pairrm"),
    "annotator.scoring": ("likelihood", "implicit"),
    "online.reward": REWARDS,
    "data.layout": (None, "hh_rlhf", "tldr", "ufb", "shp"),
    "data.positive": (None, "a", "b"),
    "data.length_rule": ("longer_pair", "full_texts", "prompt_and_responses", "both_full_texts"),
    "data.test_prompts": ("any", "unseen", "unseen_once"),
    "gold.name": (*SYNTHETIC_GOLDS, "trained", "paper", *MODEL_GOLDS, "openai"),
    "judge": ("judge", "openai"),
    "logger.name": ("jsonl", "wandb"),
    "logger.mode": ("auto", "online", "offline"),
}
OPEN_UNIT = ("human_fraction", "unlabeled_fraction", "data.test_fraction")
POSITIVE = (
    "objective.beta weighting.scale generation.temperature generation.max_new_tokens generation.batch_size gold.batch_size "
    "gold.temperature gold.concurrency gold.timeout annotator.head_std annotator.beta data.max_tokens jobs threads token_budget world.sequences world.batch_size "
    "world.learning_rate lora.r lora.alpha"
).split()
AT_LEAST = {
    "data.pairs": 4,
    "data.test_pairs": 2,
    "evaluation.prompts": 2,
    "online.batches_per_round": 1,
    "online.batch_size": 1,
    "seed": 0,
    "world.seed": 0,
    "lora.dropout": 0,
    "gold.retries": 0,
    "gold.max_usd": 0,
}
# These need no more settings.
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "polynomial", "inverse_sqrt")


def nearest(value: object, valid: Iterable[str | None]) -> str:
    """`did you mean x?` where one is close, and the valid values."""
    options, given = [option for option in valid if option is not None], str(value)
    close = [option for option in options if given and option.startswith(given)]
    close = close or difflib.get_close_matches(given, options, n=1)
    return (f"did you mean {close[0]}? " if close else "") + "valid: " + ", ".join(options)


def check_config(cfg: DictConfig, stages: Iterable[str]) -> None:
    """Raise InputError with every problem of a composed configuration. Reads no data and no weights."""
    none = _unusable(cfg)
    if none:
        raise InputError(none)
    problems = _settings(cfg, stages)
    told = {problem.partition("=")[0] for problem in problems}
    problems += [line for line in _models(cfg, ask_hub=not problems) if line.partition("=")[0] not in told]
    if problems:
        raise InputError(problems)


def setting_problems(cfg: DictConfig, stages: Iterable[str]) -> list[str]:
    """Every problem but those of the named checkpoints."""
    return _unusable(cfg) or _settings(cfg, stages)


def _unusable(cfg: DictConfig) -> list[str]:
    return list(_unknown(cfg, Config)) or unreadable(cfg)


def _settings(cfg: DictConfig, stages: Iterable[str]) -> list[str]:
    problems = [
        *_choices(cfg, stages),
        *_ranges(cfg),
        *method_problems(cfg),
        *online_problems(cfg),
        *_labeled(cfg),
        *_gold(cfg),
        *_data(cfg),
        *machine_problems(cfg, TRAININGS),
    ]
    return with_leaf_problems(cfg, problems)


def _unknown(cfg: DictConfig, schema: Any, prefix: str = "") -> Iterator[str]:
    """Keys added with `+` that the schema does not have; Hydra lets them in and nothing would read them."""
    kinds: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(schema)}
    for key in map(str, cfg):
        if key not in kinds:
            valid = [f"{prefix}{name}" for name in kinds]
            yield f"+{prefix}{key} is no key of the configuration; {nearest(prefix + key, valid)}"
        elif dataclasses.is_dataclass(kinds[key]):
            yield from _unknown(cfg[key], kinds[key], f"{prefix}{key}.")


def _choices(cfg: DictConfig, stages: Iterable[str]) -> list[str]:
    problems = [
        f"{key}={OmegaConf.select(cfg, key)} is unknown; {nearest(OmegaConf.select(cfg, key), valid)}"
        for key, valid in CHOICES.items()
        if OmegaConf.select(cfg, key) not in valid
    ]
    if cfg.until is not None and cfg.until not in stages:
        problems.append(f"until={cfg.until} is no stage; {nearest(cfg.until, stages)}")
    problems += device_problems(cfg.device)
    if cfg.lora.enabled and find_spec("peft") is None:
        problems.append(
            "lora.enabled=true needs the package peft; pip install 'cwpo[lora]', or use lora.enabled=false"
        )
    return problems


def device_problems(device: str) -> list[str]:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device):
        return []
    return [f"device={device} is unknown; {nearest(device, ('auto', 'cpu', 'cuda', 'cuda:<number>', 'mps'))}"]


def _optimizer(key: str, name: str) -> list[str]:
    if name == "adamw_torch":
        return []
    from transformers.training_args import OptimizerNames  # slow to import, so not for the default

    valid = [optimizer.value for optimizer in OptimizerNames]
    return [] if name in valid else [f"{key}={name} is unknown; {nearest(name, valid)}"]


def _ranges(cfg: DictConfig) -> list[str]:
    problems = []

    def need(key: str, ok: Any, what: str) -> None:
        value = OmegaConf.select(cfg, key)
        if value is not None and not (-math.inf < value < math.inf and ok(value)):
            problems.append(f"{key}={value} must be {what}")

    for key in OPEN_UNIT:
        need(key, lambda v: 0 < v < 1, "in (0, 1)")
    for key in POSITIVE:
        need(key, lambda v: v > 0, "positive")
    for key, low in AT_LEAST.items():
        need(key, lambda v, low=low: v >= low, f"at least {low}")
    for key in ("objective.flip_rate", "data.label_flip"):
        need(key, lambda v: 0 <= v < 0.5, "in [0, 0.5)")
    need("gold.holdout", lambda v: 0 <= v < 1, "in [0, 1)")
    need("method.selection.value", lambda v: 0 <= v <= 1, "in [0, 1]")
    need("labeled.own_share", lambda v: 0 <= v <= 1, "in [0, 1]")
    need("labeled.poison_fraction", lambda v: 0 <= v < 1, "in [0, 1)")
    total = cfg.human_fraction + (cfg.unlabeled_fraction or 0)
    if not problems and total > 1 + 1e-9:
        problems.append(
            f"human_fraction={cfg.human_fraction} and unlabeled_fraction={cfg.unlabeled_fraction} are {total:g} together; they are "
            "shares of the same training pairs, so at most 1"
        )
    for group in TRAININGS:
        problems += training_problems(cfg, group)
    return problems


def training_problems(cfg: DictConfig, group: str) -> list[str]:
    """Of a TrainingConfig at the dotted key `group`."""
    part = OmegaConf.select(cfg, group)
    problems = [
        f"{group}.{leaf}={part[leaf]} must be positive"
        for leaf in ("epochs", "learning_rate", "batch_size", "micro_batch_size", "max_grad_norm")
        if part[leaf] is not None and not 0 < part[leaf] < math.inf
    ]
    problems += [
        f"{group}.{leaf}={part[leaf]} must be at least 0"
        for leaf in ("warmup_steps", "weight_decay")
        if not 0 <= part[leaf] < math.inf
    ]
    if part.precision not in PRECISIONS:
        valid = nearest(part.precision, PRECISIONS)
        problems.append(f"{group}.precision={part.precision} is unknown; {valid}")
    micro = part.micro_batch_size
    if micro and micro > 0 and part.batch_size % micro:
        problems.append(f"{group}.micro_batch_size={micro} must divide {group}.batch_size={part.batch_size}")
    if part.scheduler not in SCHEDULERS:
        problems.append(
            f"{group}.scheduler={part.scheduler} is unknown; {nearest(part.scheduler, SCHEDULERS)}"
        )
    return problems + _optimizer(f"{group}.optimizer", part.optimizer)


def _labeled(cfg: DictConfig) -> list[str]:
    other = cfg.labeled.other
    named = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "jsonl")
    problems = []
    if other is not None and other not in named:
        problems.append(f"labeled.other={other} is no data set of conf/data; {nearest(other, named)}")
    if other is not None and cfg.data.source == "jsonl":
        problems.append(
            "labeled.other names a published data set, but data=jsonl is a file; put the rows to mix into one file"
        )
    if other is None and 0 <= cfg.labeled.own_share < 1:
        problems.append(
            f"labeled.own_share={cfg.labeled.own_share} leaves pairs to another data set; name it with labeled.other=..."
        )
    return problems


def _data(cfg: DictConfig) -> list[str]:
    data = cfg.data
    paths = list(data.path) if isinstance(data.path, ListConfig) else [data.path]
    if data.path is not None and not (paths and all(isinstance(path, str) and path for path in paths)):
        return [f"data.path={data.path} must be a file, a list of files, or a hub id"]
    if data.source not in CHOICES["data.source"]:
        return []
    if data.source == "world":
        from cwpo.data.toy import DATASETS

        problems = [
            f"data.{key} is required for synthetic data"
            for key in ("pairs", "test_pairs")
            if getattr(data, key) is None
        ]
        if data.world not in DATASETS:
            problems.append(f"data.world={data.world} is unknown; {nearest(data.world, DATASETS)}")
        return problems
    problems = []
    if data.source == "hub":
        problems += _published(data)
    if data.source == "jsonl":
        from cwpo.data.files import SUFFIXES
        from cwpo.data.rows import KNOWN

        if data.path is None:
            return ["data.path is required: a file, a list of files, or a hub id"]
        problems += [
            f"data.columns.{ours} names no column of a pair; {nearest(ours, KNOWN)}"
            for ours in data.columns
            if ours not in KNOWN
        ]
        for path in map(str, paths):
            file = Path(path).expanduser()
            looks_local = (
                path.startswith((".", "/", "~")) or path.endswith((*SUFFIXES, ".gz")) or path.count("/") > 1
            )
            if file.is_dir():
                problems.append(f"data.path={path} is a folder; name the file in it")
            elif not file.is_file() and looks_local:
                problems.append(f"data.path={path} does not exist")
            elif file.is_file() and file.stat().st_size == 0:
                problems.append(f"data.path={path} is empty")
    worlds = [
        f"pair.{who}={cfg.pair[who]}" for who in ("weak", "strong") if cfg.pair[who].startswith("world/")
    ]
    if worlds:
        problems.append(
            f"{' and '.join(worlds)} can read only the synthetic world's sentences, but data={data.name} is real text; "
            "set pair.weak and pair.strong to checkpoint folders or hub ids"
        )
    return problems


def _published(data: DictConfig) -> list[str]:
    problems = [
        f"data.{key} is required for a published data set: {what}"
        for key, what in (("path", "a folder or hub id"), ("layout", "the form of its files and rows"))
        if data[key] is None
    ]
    if isinstance(data.path, str):
        file = Path(data.path).expanduser()
        if file.is_file():
            problems.append(
                f"data.path={data.path} is a file; name the folder with the data set's files, or use data=jsonl"
            )
        elif not file.is_dir() and not is_hub_id(data.path):
            problems.append(
                f"data.path={data.path} does not exist; name a folder, or a hub id such as Anthropic/hh-rlhf"
            )
    elif data.path is not None:
        problems.append(f"data.path={data.path} must be one folder or hub id for a published data set")
    return problems
