"""How one stage is run: its settings, which never enter a key, and its work in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cwpo.execution.processes import LAUNCHED, launch
from cwpo.pipeline.graph import Node
from cwpo.runtime import pick_device
from cwpo.stages.base import Work
from cwpo.stages.pretrain import PRETRAIN
from cwpo.store.store import Store
from cwpo.tracking import Tracker


@dataclass(frozen=True)
class Settings:
    """What a run uses that is no part of any key: where, on what, and who is told."""

    store: str
    device: str = "auto"
    threads: int = 1
    token_budget: int | None = None
    group: str = "custom"
    wandb: dict[str, Any] | None = None
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    launch: str = "none"
    processes: int = 1

    @staticmethod
    def of(cfg: DictConfig) -> Settings:
        wandb = (
            {"project": cfg.logger.project, "entity": cfg.logger.entity, "mode": cfg.logger.mode}
            if cfg.logger.name == "wandb"
            else None
        )
        own = {name: cfg[name] for name in ("checkpoint_minutes", "checkpoint_steps", "launch", "processes")}
        return Settings(cfg.store, cfg.device, cfg.threads, cfg.token_budget, cfg.name, wandb, **own)


def run_node(
    node: Node, settings: Settings, progress: Callable[[int, int], None] = lambda d, t: None
) -> bool:
    """Compute one stage whose parents are finished; False if it was finished already."""
    store = Store(settings.store)

    def work(folder: Path) -> Mapping[str, Any]:
        with Tracker(
            folder,
            stage=node.stage.name,
            key=node.key,
            group=settings.group,
            config=node.config,
            wandb=settings.wandb,
            wandb_dir=store.root.parent,
        ) as tracker:
            task = Work(
                out=folder,
                config=OmegaConf.create(node.config),
                parents={role: _output(parent, store) for role, parent in node.parents.items()},
                tracker=tracker,
                device=pick_device(settings.device),
                token_budget=settings.token_budget,
                scratch=store.scratch(node.stage.name, node.key),
                checkpoint_minutes=settings.checkpoint_minutes,
                checkpoint_steps=settings.checkpoint_steps,
                progress=progress,
            )
            if settings.launch != "none" and node.stage.name in LAUNCHED:
                summary = launch(node.stage.name, task, settings.launch, settings.processes, settings.threads)
            else:
                summary = node.stage.run(task)
            tracker.summary(summary)
        return summary

    for parent in node.parents.values():
        store.manifest(parent.stage.name, parent.key)
    return store.compute(
        node.stage.name,
        node.key,
        work,
        config=node.hashed,
        parents={role: parent.key for role, parent in node.parents.items()},
        seed=node.config.get("seed"),
        version=node.stage.version,
    )


def _output(node: Node, store: Store) -> Path:
    """What a child reads: the folder of a stage, or the checkpoint itself for a pretrained model."""
    folder = node.folder(store)
    return folder / "model" if node.stage.name == PRETRAIN.name else folder
