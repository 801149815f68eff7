"""Checks the settings of the commands for own pairs. Rules about single values are in cwpo.config.commands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.checks.arms import training_problems
from cwpo.checks.checkpoints import model_problems
from cwpo.checks.machine import lora_problems
from cwpo.checks.settings import check_settings, first_by_key
from cwpo.config.commands import AlignConfig, AnnotateConfig, CompareConfig
from cwpo.config.schema import SYNTHETIC_GOLDS
from cwpo.errors import InputError, Problem
from cwpo.own.folder import checkpoint_of, is_ours

LONGEST_NAME = 240  # bytes; the hidden folder beside `out` has a name 10 bytes longer, and file systems allow 255
ANNOTATED = ("data", "model", "annotator.path")  # the keys that name inputs: files, folders or hub ids
ALIGNED = ("preferences", "model", "test")
COMPARED = ("before", "after", "prompts", "gold")


def check_annotate(cfg: Any, ask_hub: bool = True) -> None:
    """Raises InputError with every problem of annotate.py's settings. ask_hub=False: reads no configs of models."""
    if cfg.show is not None:  # the command writes nothing then
        cfg = OmegaConf.merge(cfg, {"out": "."})
    problems = check_settings(cfg, AnnotateConfig, annotate_problems)
    path = cfg.annotator.path
    named = {"model": cfg.model, "annotator.path": path and checkpoint_of(path)} if cfg.show is None else {}
    models = {key: (name, cfg.revision) for key, name in named.items() if name is not None}
    scoring = () if is_ours(path) else ("annotator.path",)
    _refuse(problems, models, ask_hub, scoring=scoring, heads=("model",))


def check_align(cfg: Any, ask_hub: bool = True) -> None:
    """Raises InputError with every problem of align.py's settings. ask_hub=False: reads no configs of models."""
    problems = check_settings(cfg, AlignConfig, align_problems)
    _refuse(problems, {"model": (cfg.model, cfg.revision)}, ask_hub)


def check_compare(cfg: Any, ask_hub: bool = True) -> None:
    """Raises InputError with every problem of compare.py's settings. ask_hub=False: reads no configs of models."""
    problems = check_settings(cfg, CompareConfig, lambda cfg: _occupied(cfg, "comparison.json", COMPARED))
    models = {"before": (cfg.before, None), "after": (cfg.after, None)}
    if cfg.gold not in SYNTHETIC_GOLDS:
        models["gold"] = (checkpoint_of(cfg.gold), cfg.revision)
    scoring = () if is_ours(cfg.gold) else ("gold",)
    _refuse(problems, models, ask_hub, scoring=scoring, adapters=("before", "after"))


def annotate_problems(cfg: Any) -> Iterator[Problem]:
    yield from training_problems("annotator.training", cfg.annotator.training)
    if cfg.show is not None:  # nothing is trained and nothing written
        return
    yield from _occupied(cfg, "report.json", ANNOTATED)
    path = cfg.annotator.path
    if path is None and cfg.model is None:
        yield Problem("model", "name a model to train, model=..., or a trained reward model, annotator.path=...")
    elif path is not None and cfg.model is not None:
        yield Problem(
            "model",
            f"model={cfg.model} would be trained and annotator.path={path} is trained already; name one of them",
        )
    if cfg.annotator.kind == "pairrm" and cfg.ties == "soft":
        yield Problem(
            "annotator.kind",
            "annotator.kind=pairrm learns from 0 and 1 only; use ties=drop, or annotator.kind=bt with ties=soft",
        )


def align_problems(cfg: Any) -> Iterator[Problem]:
    for name in ("sft", "alignment"):
        yield from training_problems(name, cfg[name])
    yield from lora_problems(cfg.lora)
    yield from _occupied(cfg, "alignment.json", ALIGNED)


def _occupied(cfg: Any, mark: str, inputs: Iterable[str]) -> Iterator[Problem]:
    """Yields a problem if a result may not replace the folder cfg.out.

    It may not if cfg.out is a file, a mount point or the working folder; if its name is too long; if it holds files but
    not `mark`, the file that every result has; or if it holds an input, which a key in `inputs` names.
    """
    out, folder = cfg.out, Path(cfg.out).expanduser().resolve()
    held = [(key, name) for key in inputs if _lies_in(name := OmegaConf.select(cfg, key), folder)]
    if any(place.exists() and not place.is_dir() for place in (folder, *folder.parents)):
        yield Problem("out", f"out={out} is a file, or lies in one; name a new folder")
    elif folder in (Path.cwd(), *Path.cwd().parents):
        yield Problem("out", f"out={out} is the folder in which the command runs, or holds it; name a new folder")
    elif len(os.fsencode(folder.name)) > LONGEST_NAME:
        yield Problem("out", f"out={out} has a name of more than {LONGEST_NAME} bytes; name a shorter one")
    elif os.path.ismount(folder):
        yield Problem(
            "out", f"out={out} is a mount point, which cannot be replaced by a folder; name a new folder in it"
        )
    elif folder.is_dir() and not (folder / mark).is_file() and any(folder.iterdir()):
        yield Problem("out", f"out={out} holds other files; name a new folder")
    elif held:
        key, name = held[0]
        yield Problem(
            "out", f"out={out} holds {key}={name}, and the new result would replace all of it; name a new folder"
        )


def _lies_in(name: str | None, folder: Path) -> bool:
    """Returns whether `name` is `folder` or a file or folder inside it; False for a hub id or None."""
    place = os.path.expanduser(name or "")  # Path.exists would raise for a name that is too long
    return os.path.exists(place) and Path(place).resolve().is_relative_to(folder)


def _refuse(
    problems: list[Problem], models: Mapping[str, tuple[str, str | None]], ask_hub: bool, **kinds: tuple[str, ...]
) -> None:
    """Raises InputError with all of `problems` and those that model_problems finds in `models`, if there are any.

    `kinds`: the arguments `scoring`, `heads` and `adapters` of model_problems, which list the keys that need a special
    kind of model. Folders are always checked. The models' configs are read only if `ask_hub` is set and `problems` is
    empty, because reading them imports torch.
    """
    asked = model_problems(models, ask_hub=ask_hub and not problems, **kinds)
    problems = first_by_key(problems, asked)
    if problems:
        raise InputError(problems)
