"""Runs one stage and keeps its result in the store. Defines the execution settings, which no stage's key depends on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.schema import Config
from cwpo.execution.processes import launch
from cwpo.pipeline.graph import Node
from cwpo.runtime import free_memory, pick_device
from cwpo.stages.base import Work
from cwpo.store.store import Store
from cwpo.tracking import Tracker


@dataclass(frozen=True)
class Settings:
    """Execution settings, on which no stage's key depends: the store, device, processes, checkpoints, logging."""

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
    def of(cfg: Config) -> "Settings":
        same = {f.name: getattr(cfg, f.name) for f in fields(Settings) if hasattr(cfg, f.name)}
        wandb = {name: getattr(cfg.logger, name) for name in ("project", "entity", "mode")}
        return Settings(**same, group=cfg.name, wandb=wandb if cfg.logger.name == "wandb" else None)


def run_node(node: Node, settings: Settings, progress: Callable[[int, int], None] = lambda d, t: None) -> bool:
    """Computes a stage unless the store has it; returns whether it did. StoreError if a parent is absent or damaged."""
    store = Store(settings.store)
    stage: dict[str, Any] = {"stage": node.stage.name, "key": node.key}

    def work(folder: Path) -> Mapping[str, Any]:
        node.check_files()
        told: dict[str, Any] = {"group": settings.group, "wandb": settings.wandb}
        told["wandb_dir"] = store.root.parent
        with Tracker(folder, **stage, config=node.config, **told) as tracker:
            task = Work(
                out=folder,
                config=OmegaConf.create(node.config),
                parents={role: each.folder(store) / each.stage.output for role, each in node.parents.items()},
                tracker=tracker,
                device=pick_device(settings.device),
                token_budget=settings.token_budget,
                scratch=store.scratch(**stage),
                checkpoint_minutes=settings.checkpoint_minutes,
                checkpoint_steps=settings.checkpoint_steps,
                progress=progress,
            )
            if settings.launch != "none" and node.stage.launched:
                summary = launch(node.stage.name, task, settings.launch, settings.processes, settings.threads)
            else:
                summary = node.stage.run(task)
            node.check_files()
            tracker.summary(summary)
        if not node.stage.light:
            free_memory(task.device)
        return summary

    for parent in node.parents.values():
        store.manifest(parent.stage.name, parent.key)
    return store.compute(
        **stage,
        work=work,
        config=node.hashed,
        parents={role: parent.key for role, parent in node.parents.items()},
        seed=node.config.get("seed"),
        version=node.stage.version,
    )
