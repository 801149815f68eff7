"""Whether the gold model and the checkpoints of a configuration can be used: pinned, there, of the right kind. No weights."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig

from cwpo.config.assets import distinct, hub_assets, is_hub_id, settled
from cwpo.config.schema import MODEL_GOLDS, SYNTHETIC_GOLDS

HEAD_SIZE = 16  # of the synthetic world's models


def gold_problems(cfg: DictConfig) -> list[str]:
    """Whether gold knows the data, and has what it needs."""
    name, source = cfg.gold.name, cfg.data.source
    own = "gold=trained, or gold=huggingface gold.path=<reward model>"
    if name in SYNTHETIC_GOLDS and source in ("hub", "jsonl"):  # any other is told as unknown
        return [
            f"gold={name} knows only the synthetic world, but data={cfg.data.name} comes from {source}; use {own}"
        ]
    if name == "paper" and (source != "hub" or cfg.data.gold not in cfg.reward_models):
        return [
            f"gold=paper names a reward model for the paper's published data sets, but data={cfg.data.name} is none of them; use {own}"
        ]
    if name == "trained" and not 0 < cfg.gold.holdout < 1:
        return [
            f"gold.holdout={cfg.gold.holdout} must be in (0, 1): gold=trained learns from held-out human pairs"
        ]
    if name in MODEL_GOLDS and not cfg.gold.path:
        return [f"gold={name} needs gold.path=<checkpoint folder or hub id>"]
    return _judge(cfg) if name == "openai" else []


def _judge(cfg: DictConfig) -> list[str]:
    problems = []
    if not cfg.gold.model:
        problems.append("gold=openai needs gold.model=<name of the model at the endpoint>")
    file = cfg.gold.prompt_file
    if file is not None and not Path(file).expanduser().is_file():
        problems.append(
            f"gold.prompt_file={file} does not exist; name a text file, or null for our own prompt"
        )
    if cfg.method.labels in ("gold", "flips") or cfg.labeled.poison_fraction or cfg.name == "figure7":
        problems.append(
            "gold=openai compares the test responses only, but this arm needs gold rewards of its training pairs; use another gold"
        )
    return problems + [
        f"gold.usd_per_million.{name}={price} must be at least 0, of input or output"
        for name, price in cfg.gold.usd_per_million.items()
        if name not in ("input", "output") or not price >= 0
    ]


def checkpoint_problems(cfg: DictConfig, ask_hub: bool) -> list[str]:
    """Problems of the named checkpoints. Folders are looked into; a hub id is asked for its config, which takes time."""
    cfg = settled(cfg)
    named = {
        "pair.weak": (cfg.pair.weak, cfg.pair.weak_revision),
        "pair.strong": (cfg.pair.strong, cfg.pair.strong_revision),
    }
    gold = (cfg.gold.path, cfg.gold.revision)
    # gold=trained starts from the strong model unless told otherwise: that one needs no second line
    if cfg.gold.name in (*MODEL_GOLDS, "trained") and cfg.gold.path and gold != named["pair.strong"]:
        named["gold.path"] = gold
    if cfg.online.reward == "reward_model" and cfg.online.reward_model:
        named["online.reward_model"] = (cfg.online.reward_model, cfg.online.reward_revision)
    real = {key: spec for key, spec in named.items() if not spec[0].startswith("world/")}
    problems = []
    for key, (path, _) in named.items():
        if path.startswith("world/"):
            problems += _world_model(key, path)
    if not ask_hub or problems:
        return problems + _folders(real)
    problems = _folders(real) or unpinned(cfg)
    if real and not problems:
        from cwpo.models.policy import hub_problem

        for key, (path, revision) in real.items():
            problem = hub_problem(path, revision, key)
            problems += [problem] if problem else []
        # gold=trained names a backbone, which gets its head here
        scoring = ["online.reward_model", *(["gold.path"] if cfg.gold.name in MODEL_GOLDS else [])]
        if not problems and not real.keys().isdisjoint(scoring):
            from cwpo.models.reward_models import gold_problem

            seq2seq = {"gold.path": cfg.gold.name == "steamshp"}
            found = (gold_problem(*real[key], key, seq2seq.get(key, False)) for key in scoring if key in real)
            problems += [problem for problem in found if problem]
    if not problems:
        from cwpo.models.annotator import classifier_problem

        heads = {key: real[key] for key in _given_a_head(cfg) if key in real}
        problems = [problem for key, spec in heads.items() if (problem := classifier_problem(*spec, key))]
    return problems


def _given_a_head(cfg: DictConfig) -> list[str]:
    """Keys of the language models that get a scalar head in this arm."""
    keys = []
    if cfg.method.labels in ("weak", "flips") and cfg.annotator.name in ("bt", "pairrm"):
        keys.append("pair.weak")
    if cfg.gold.name == "trained":
        keys.append("pair.strong" if cfg.gold.path == cfg.pair.strong else "gold.path")
    return keys


def unpinned(cfg: DictConfig) -> list[str]:
    """One line for every model or data set of the hub without a commit, unless that is allowed."""
    if cfg.allow_unpinned:
        return []
    return [asset.problem() for asset in distinct(hub_assets(settled(cfg))) if not asset.pinned]


def _folders(real: dict[str, tuple[str, str | None]]) -> list[str]:
    if all(is_hub_id(path) for path, _ in real.values()):
        return []
    from cwpo.models.policy import checkpoint_problem

    return [problem for key, (path, _) in real.items() if (problem := checkpoint_problem(path, key))]


def _world_model(key: str, path: str) -> list[str]:
    found = re.fullmatch(r"world/(opt|qwen2|llama)-([1-9]\d*)x[1-9]\d*", path)
    if found and int(found[2]) % HEAD_SIZE == 0:
        return []
    return [
        f"{key}={path} is no model of the synthetic world; use world/<opt|qwen2|llama>-<hidden>x<layers> with hidden a "
        f"multiple of {HEAD_SIZE}, e.g. world/opt-64x2"
    ]
