"""Checks the checkpoints that a configuration names: pinned, present and of the right kind. Loads no weights."""

import re
from collections.abc import Iterable, Iterator, Mapping

from cwpo.config.assets import distinct, hub_assets, is_hub_id, named_models, settled
from cwpo.config.families import HEAD_SIZE
from cwpo.config.schema import MODEL_GOLDS, POLICY_ANNOTATORS, STAGES, Config
from cwpo.errors import Problem
from cwpo.models.folders import checkpoint_problem


def checkpoint_problems(cfg: Config, ask_hub: bool) -> list[Problem]:
    """Returns the problems of the checkpoints that `cfg` names. With ask_hub, reads the models' configs, too."""
    cfg = settled(cfg)
    named = named_models(cfg)
    if named.get("gold.path", "") == named.get("pair.strong"):  # default of gold=trained: report its problems once
        del named["gold.path"]
    worlds = {key: path for key, (path, _) in named.items() if path.startswith("world/")}
    real = {key: spec for key, spec in named.items() if key not in worlds}
    here = {key: spec for key, spec in real.items() if not is_hub_id(spec[0])}
    problems = _texts({key: _world_problem(key, path) for key, path in worlds.items()}) + model_problems(here)
    if problems or not ask_hub:
        return problems
    # gold.path need not be a reward model for gold=trained, which adds the scalar head itself
    scoring = ["online.reward_model", *(["gold.path"] if cfg.gold.name in MODEL_GOLDS else [])]
    pairwise = ["gold.path"] if cfg.gold.name == "steamshp" else []
    heads = given_a_head(cfg)
    problems = unpinned(cfg) or model_problems(real, scoring=scoring, seq2seq=pairwise, heads=heads, ask_hub=True)
    return problems or list(_room_problems(cfg))


def _room_problems(cfg: Config) -> Iterator[Problem]:
    """Yields a problem if generation.max_new_tokens fills the strong model's context. Checks only arms that sample."""
    samples = STAGES.index(cfg.until or STAGES[-1]) >= STAGES.index("online_align")
    if not samples or cfg.pair.strong.startswith("world/"):
        return
    from cwpo.models.policy import context_length  # imports torch

    context, new = context_length(cfg.pair.strong, cfg.pair.strong_revision), cfg.generation.max_new_tokens
    if context is not None and new >= context:
        why = (
            f"leaves no room for a prompt: the context of pair.strong={cfg.pair.strong} has {context} tokens; use fewer"
        )
        yield Problem("generation.max_new_tokens", f"generation.max_new_tokens={new} {why}")


def given_a_head(cfg: Config) -> list[str]:
    """Returns the config keys of the language models that get a scalar head, as annotator or gold model of the arm."""
    annotated = cfg.method.labels in ("weak", "flips") and cfg.annotator.name not in POLICY_ANNOTATORS
    keys = ["pair.weak"] if annotated else []
    if cfg.gold.name == "trained":
        keys.append("pair.strong" if cfg.gold.path == cfg.pair.strong else "gold.path")
    return keys


def unpinned(cfg: Config) -> list[Problem]:
    """Returns a problem for each model or data set on the hub that has no pinned commit; [] with allow_unpinned."""
    if cfg.allow_unpinned:
        return []
    assets = distinct(hub_assets(settled(cfg)))
    return [Problem(asset.key, asset.problem()) for asset in assets if not asset.pinned]


def model_problems(
    named: Mapping[str, tuple[str, str | None]],
    *,
    scoring: Iterable[str] = (),
    seq2seq: Iterable[str] = (),
    heads: Iterable[str] = (),
    adapters: Iterable[str] = (),
    ask_hub: bool = False,
) -> list[Problem]:
    """Returns the problems of the models in `named`, {dotted key: (folder or hub id, revision)}.

    `scoring`, `seq2seq`, `heads` and `adapters` list keys of `named`.
    A local folder must hold a model, or, if its key is in `adapters`, a model or LoRA adapters trained by cwpo. With
    `ask_hub`, the function also reads each model's config, from the folder or the hub. The key decides what is valid:
    In `scoring`: a reward model with one score, or an encoder-decoder if the key is also in `seq2seq`.
    In `heads`: a model that can get a scalar head.
    Other keys: a causal language model; for embedding.path, any model.
    """
    problems = _texts({key: checkpoint_problem(path, key, key in adapters) for key, (path, _) in named.items()})
    if not ask_hub or not named:
        return problems
    from cwpo.models.annotator import classifier_problem  # imported here because they import torch
    from cwpo.models.policy import hub_problem, policy_problem
    from cwpo.models.reward_models import gold_problem

    wrong = {problem.key for problem in problems}
    problems += _texts({key: hub_problem(*named[key], key) for key in named if key not in wrong})
    if problems:
        return problems
    texts = {key: gold_problem(*named[key], key, key in seq2seq) for key in scoring if key in named}
    texts |= {key: classifier_problem(*named[key], key) for key in heads if key in named}
    policies = named.keys() - {*texts, "embedding.path"}
    return _texts(texts | {key: policy_problem(*named[key], key) for key in named if key in policies})


def _texts(texts: Mapping[str, str | None]) -> list[Problem]:
    return [Problem(key, text) for key, text in texts.items() if text]


def _world_problem(key: str, path: str) -> str | None:
    parts = re.fullmatch(r"world/(opt|qwen2|llama)-([1-9]\d*)x[1-9]\d*", path)
    if parts and int(parts[2]) % HEAD_SIZE == 0:
        return None
    return (
        f"{key}={path} is not a model of the synthetic world; use world/<opt|qwen2|llama>-<hidden>x<layers> with hidden a "
        f"multiple of {HEAD_SIZE}, e.g. world/opt-64x2"
    )
