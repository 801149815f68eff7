"""Runs `make preflight`: prints what the experiments need, and reports every problem in one list, each with its fix."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.checks.checkpoints import unpinned
from cwpo.checks.settings import setting_problems
from cwpo.config.assets import Asset, hub_assets, is_hub_id, settled
from cwpo.config.assets import distinct as distinct_assets
from cwpo.config.schema import STAGES, Config
from cwpo.errors import InputError
from cwpo.pipeline.arms import Arm, configurations, distinct, set_values
from cwpo.pipeline.experiments import experiments, seeds_of
from cwpo.planning.plan import hour_lines
from cwpo.planning.preflight.found import data_problems, model_problems, models_of
from cwpo.planning.preflight.machine import credential_problems, disk_of, in_cache
from cwpo.planning.preflight.memory import GIB, Need, Shape, gpus, shape_of, stage_needs, store_gib
from cwpo.store.store import Store

SHARED = "share it among several GPUs (launch=fsdp processes=<GPUs>)"
NARROW = "keep the frozen weights in 16 bits (lora.enabled=true lora.base_dtype=bfloat16 lora.save=adapters"
# Stage -> what makes it need less GPU memory.
LESS = {
    "train_annotator": f"lower token_budget, or {SHARED}",
    "sft": f"lower token_budget, use lora.enabled=true, or {SHARED}",
    "align": f"lower token_budget, use lora.enabled=true, or {SHARED}",
    "reference": f"lower token_budget, or {NARROW})",
    "generate": f"{NARROW} generation.precision=bfloat16)",
    "evaluate": "use a smaller reward model, or a larger GPU",
}


def preflight(cfg: Any) -> None:
    """Prints the hub assets, GPU memory and hours the experiments need. InputError lists every problem and its fix."""
    arms = list(settled_arms(cfg))
    problems: dict[str, None] = {}
    assets = distinct_assets(asset for arm in arms for asset in hub_assets(arm))
    for arm in arms:
        problems |= dict.fromkeys(map(str, [*unpinned(arm), *credential_problems(arm, assets)]))
    unusable = dict(_asset_problems(arms))
    problems |= dict.fromkeys(problem for found in unusable.values() for problem in found)
    shapes = _shapes(arms, unusable)
    on_gpus = [arm for arm in arms if arm.device != "cpu" and _loaded(arm)]  # models of the synthetic world need no GPU
    every = [need for arm in on_gpus for need in stage_needs(arm, _named(arm, shapes))]
    needs = list({(need.stage, need.model): need for need in sorted(every, key=lambda need: need.total)}.values())
    if on_gpus:
        problems |= dict.fromkeys(_memory_problems(needs, cfg.gpu_gib))
    if not problems:
        problems |= dict.fromkeys(_disk_problems(cfg, arms, assets, shapes))
    _show(arms, assets, needs)
    if problems:
        raise InputError(list(problems))
    ready = list({made.key: made for made in map(Arm.of_checked, arms)}.values())
    print(f"ready: {len(ready)} arms a seed; nothing was found that would stop them")
    for line in hour_lines(ready, Store(cfg.store)):
        print(line)


def settled_arms(cfg: Any) -> Iterator[Config]:
    """Yields every arm's config at one seed, with its gold model and revisions filled in (cwpo.config.assets.settled).

    Raises InputError with all invalid settings of all arms, because these leave open what an arm would load.
    """
    seeds = seeds_of(cfg.experiment, cfg.seeds) or [0]
    arms: list[Any] = []
    problems: dict[str, None] = {}
    for cells in experiments(cfg.experiment, cfg.scale).values():
        words = [*cells, f"scale={cfg.scale}", f"store={cfg.store}", *cfg.overrides]
        for composed, values, _ in configurations(words, seeds[:1]):
            set_values(composed, values)
            wrong = setting_problems(composed)
            problems |= dict.fromkeys(wrong)
            arms += [] if wrong else [OmegaConf.to_object(composed)]
    if problems:
        raise InputError(list(problems))
    yield from map(settled, arms)


def _asset_problems(arms: list[Config]) -> Iterator[tuple[Any, list[str]]]:
    """Yields ((key, path, revision), problems) of each distinct model, (("data", name), problems) of each data set."""
    seen: set[Any] = set()
    for arm in arms:
        for key, path, revision in models_of(arm):
            what = (key, path, revision, arm.pair.strong_chat, arm.gold.name if key == "gold.path" else None)
            if what not in seen:
                seen.add(what)
                yield (key, path, revision), model_problems(key, path, revision, arm)
        if arm.data.source == "hub" and ("data", arm.data.name) not in seen:
            seen.add(("data", arm.data.name))
            yield ("data", arm.data.name), data_problems(arm)


def _shapes(arms: list[Config], unusable: dict[Any, list[str]]) -> dict[tuple[str, str], Shape]:
    """Returns {(config key, path): sizes} of the loaded models, except those with problems in `unusable`."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    from cwpo.models.policy import read_config

    shapes: dict[tuple[str, str], Shape] = {}
    for arm in arms:
        for key, path, revision in _loaded(arm):
            if (key, path) in shapes or unusable.get((key, path, revision)):
                continue
            kind: Any = AutoModelForCausalLM
            if key != "pair.weak" and key != "pair.strong":
                kind = AutoModelForSeq2SeqLM if arm.gold.name == "steamshp" else AutoModelForSequenceClassification
            shapes[key, path] = shape_of(read_config(path, revision, key), kind)
    return shapes


def _loaded(arm: Config) -> list[tuple[str, str, str | None]]:
    """Returns (config key, path, revision) of an arm's models, but no encoder, and only models that a stage loads."""
    lending = {"embedding.path"} if arm.method.labels in ("weak", "flips") else {"embedding.path", "pair.weak"}
    if STAGES.index(arm.until or STAGES[-1]) < STAGES.index("sft"):
        lending.add("pair.strong")
    return [model for model in models_of(arm) if model[0] not in lending]


def _named(arm: Config, shapes: dict[tuple[str, str], Shape]) -> dict[str, Shape]:
    return {key: shapes[key, path] for key, path, _ in _loaded(arm) if (key, path) in shapes}


def _memory_problems(needs: list[Need], given: float | None) -> Iterator[str]:
    found = [given] if given else gpus()
    if not found:
        yield (
            "no GPU is here: run this where the experiment will run, or say what its GPUs have, e.g. gpu_gib=80, to check for it"
        )
    least = min(found, default=float("inf"))
    for need in needs:
        if need.total > least:
            parts = f"weights {need.weights:.0f}, gradients and optimizer {need.training:.0f}, activations {need.activations:.0f}"
            yield (
                f"{need.stage} of {need.model} wants about {need.total:.0f} GiB of a GPU ({parts}), which has {least:.0f}; "
                f"{LESS[need.stage]}"
            )


def _disk_problems(cfg: Any, arms: list[Config], assets: list[Asset], shapes: dict[Any, Shape]) -> Iterator[str]:
    from huggingface_hub import constants

    fetched = sum(
        2 * shape.parameters / GIB
        for (_, path), shape in {key[1]: (key, shape) for key, shape in shapes.items()}.values()
        if is_hub_id(path) and not any(a.id == path and in_cache(a) for a in assets)
    )
    store = Store(cfg.store)
    nodes = distinct([Arm.of_checked(arm) for arm in arms])
    written = store_gib([node for node in nodes if not node.done(store)], shapes)
    cache, folder = Path(constants.HF_HUB_CACHE), Path(cfg.store)
    needs = [("the cache of the hub", cache, fetched), ("store", folder, written)]
    if cfg.disk_gib or disk_of(cache)[1] == disk_of(folder)[1]:
        needs = [("the cache of the hub and store" if fetched else "store", folder, fetched + written)]
    for what, where, gib in needs:
        free = cfg.disk_gib or disk_of(where)[0]
        if gib > free:
            yield (
                f"{what}={where} will take about {gib:,.0f} GiB for one seed, but {free:,.0f} GiB are free; give it another disk, run "
                "fewer arms at a time, or clean up between them (scripts/store.py action=gc)"
            )


def _show(arms: list[Config], assets: list[Asset], needs: list[Need]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a log file has no width to keep to
        console = Console(width=200)
    if assets:
        table = Table("from the hub", "revision", "pinned")
        for asset in sorted(assets, key=lambda a: (a.kind, a.id)):
            table.add_row(asset.id, asset.revision or "–", "yes" if asset.pinned else "no")
        console.print(table)
    if not needs:
        return
    table = Table("stage", "model", "weights", "training", "activations", "GiB of a GPU")
    for need in sorted(needs, key=lambda n: -n.total):
        cells = (need.weights, need.training, need.activations, need.total)
        table.add_row(need.stage, need.model, *(f"{value:.1f}" for value in cells))
    console.print(table)
