"""Whether the checkpoints that a configuration names can be used: pinned, present, of the right kind. Loads no weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cwpo.config.assets import distinct, hub_assets, is_hub_id, settled
from cwpo.config.schema import MODEL_GOLDS, Config
from cwpo.errors import Problem
from cwpo.models.folders import checkpoint_problem

HEAD_SIZE = 16  # of the synthetic world's models
Named = Mapping[str, tuple[str, str | None]]  # key -> folder or hub id, and revision


def checkpoint_problems(cfg: Config, ask_hub: bool) -> list[Problem]:
    """Problems of the named checkpoints. Looks into folders, and asks the hub for a model's config, which takes time."""
    cfg = settled(cfg)
    named = _named(cfg)
    synthetic = [Problem(*each) for key, (path, _) in named.items() if (each := _world_model(key, path))]
    real = {key: spec for key, spec in named.items() if not spec[0].startswith("world/")}
    problems = [*synthetic, *model_problems({k: s for k, s in real.items() if not is_hub_id(s[0])})]
    if problems or not ask_hub:
        return problems
    # gold=trained starts from a language model and adds the scalar head itself
    scoring = ["online.reward_model", *(["gold.path"] if cfg.gold.name in MODEL_GOLDS else [])]
    pairwise = ["gold.path"] if cfg.gold.name == "steamshp" else []
    return unpinned(cfg) or model_problems(real, scoring=scoring, seq2seq=pairwise, ask_hub=True)


def unpinned(cfg: Config) -> list[Problem]:
    """One line for every model or data set on the hub without a commit, unless that is allowed."""
    if cfg.allow_unpinned:
        return []
    assets = distinct(hub_assets(settled(cfg)))
    return [Problem(asset.key, asset.problem()) for asset in assets if not asset.pinned]


def model_problems(
    named: Named, *, scoring: Iterable[str] = (), seq2seq: Iterable[str] = (), ask_hub: bool = False
) -> list[Problem]:
    """Problems of models by key. Those at the keys of `scoring` must return one score, those of `seq2seq` compare.

    With `ask_hub` the config of a hub id is fetched and the heads are looked at.
    """
    problems = _texts({key: checkpoint_problem(path, key) for key, (path, _) in named.items()})
    if ask_hub:
        from cwpo.models.policy import hub_problem  # late: it imports torch

        fine = named.keys() - {problem.key for problem in problems}
        problems += _texts({key: hub_problem(*named[key], key) for key in named if key in fine})
    scored = [key for key in scoring if key in named]
    if not ask_hub or problems or not scored:
        return problems
    from cwpo.models.reward_models import gold_problem

    return _texts({key: gold_problem(*named[key], key, key in seq2seq) for key in scored})


def _texts(texts: Mapping[str, str | None]) -> list[Problem]:
    return [Problem(key, text) for key, text in texts.items() if text]


def _named(cfg: Config) -> dict[str, tuple[str, str | None]]:
    """The models of a settled configuration by key."""
    named = {
        "pair.weak": (cfg.pair.weak, cfg.pair.weak_revision),
        "pair.strong": (cfg.pair.strong, cfg.pair.strong_revision),
    }
    # By default gold=trained starts from the strong model, which needs no second line.
    if cfg.gold.name in (*MODEL_GOLDS, "trained") and cfg.gold.path:
        gold = (cfg.gold.path, cfg.gold.revision)
        named |= {"gold.path": gold} if gold != named["pair.strong"] else {}
    if cfg.online.reward == "reward_model" and cfg.online.reward_model:
        named["online.reward_model"] = (cfg.online.reward_model, cfg.online.reward_revision)
    return named


def _world_model(key: str, path: str) -> tuple[str, str] | None:
    if not path.startswith("world/"):
        return None
    parts = re.fullmatch(r"world/(opt|qwen2|llama)-([1-9]\d*)x[1-9]\d*", path)
    if parts and int(parts[2]) % HEAD_SIZE == 0:
        return None
    return key, (
        f"{key}={path} is not a model of the synthetic world; use world/<opt|qwen2|llama>-<hidden>x<layers> with hidden a "
        f"multiple of {HEAD_SIZE}, e.g. world/opt-64x2"
    )
