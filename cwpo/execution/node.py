"""One stage at work in the store, and the execution settings, which never enter a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.schema import Config
from cwpo.execution.processes import launch
from cwpo.pipeline.graph import Node
from cwpo.runtime import pick_device
from cwpo.stages.base import Work
from cwpo.store.store import Store
from cwpo.tracking import Tracker


@dataclass(frozen=True)
class Settings:
    """Execution settings that never enter a key: where results go, on what to compute, and how progress is logged."""

    store: str
    device: str = "auto"
    threads: int = 1
    token_budget: int | str | None = None
    group: str = "custom"
    wandb: dict[str, Any] | None = None
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    launch: str = "none"
    processes: int = 1

    @staticmethod
    def of(cfg: Config) -> Settings:
        wandb = (
            {"project": cfg.logger.project, "entity": cfg.logger.entity, "mode": cfg.logger.mode}
            if cfg.logger.name == "wandb"
            else None
        )
        own = {
            name: getattr(cfg, name)
            for name in ("checkpoint_minutes", "checkpoint_steps", "launch", "processes")
        }
        return Settings(cfg.store, cfg.device, cfg.threads, cfg.token_budget, cfg.name, wandb, **own)


def run_node(
    node: Node, settings: Settings, progress: Callable[[int, int], None] = lambda d, t: None
) -> bool:
    """Compute one stage whose parents are finished. Returns False where it was finished already."""
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
            if settings.launch != "none" and node.stage.launched:
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
    """The folder that a child of the stage reads."""
    return node.folder(store) / node.stage.output
