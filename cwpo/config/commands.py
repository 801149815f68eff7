"""The typed configuration of every command but run and plan, as cwpo.config.schema is theirs: conf/command/<name>.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cwpo.config.schema import Config, LoraConfig, TrainingConfig


@dataclass
class ReproduceConfig:
    experiment: str = "core"
    scale: str = "toy"
    seeds: list[int] | None = None
    jobs: int = 2
    threads: int = 1
    store: str = "runs/store"
    results: str = "results"
    launcher: str | None = None
    launcher_settings: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


@dataclass
class ReportConfig:
    scale: str = "toy"
    results: str = "results"


@dataclass
class OwnAnnotatorConfig:
    kind: str = "bt"
    path: str | None = None
    members: int = 1
    head_std: float = 0.01
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class AnnotateConfig:
    data: str = MISSING
    columns: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    positive: str | None = None
    show: int | None = None
    ties: str = "drop"
    model: str | None = None
    revision: str | None = None
    chat: str = "auto"
    out: str = MISSING
    max_tokens: int = 512
    annotator: OwnAnnotatorConfig = field(default_factory=OwnAnnotatorConfig)
    folds: int = 5
    holdout_above: int = 5000
    curve: list[float] = field(default_factory=list)
    curve_folds: int = 2
    weighting: str = "c1"
    calibrate: bool = False
    include_labeled: bool = True
    target_accuracy: float = 0.65
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    token_budget: int | None = None


@dataclass
class AlignConfig:
    preferences: str = MISSING
    model: str = MISSING
    revision: str | None = None
    chat: str = "auto"
    out: str = MISSING
    weight_column: str = "weight"
    keep: float = 1.0
    max_tokens: int = 512
    objective: str = "dpo"
    beta: float = 0.5
    flip_rate: float = 0.1
    average_logps: bool = False
    sft: TrainingConfig = field(default_factory=TrainingConfig)
    alignment: TrainingConfig = field(default_factory=TrainingConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    test: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    positive: str | None = None
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    token_budget: int | None = None


@dataclass
class CompareConfig:
    before: str = MISSING
    after: str = MISSING
    prompts: str = MISSING
    column: str = "prompt"
    gold: str = MISSING
    revision: str | None = None
    chat: str = "auto"
    most: int = 200
    max_new_tokens: int = 128
    temperature: float = 0.95
    batch_size: int = 32
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    out: str = MISSING


@dataclass
class OwnResultsConfig:
    data: str = MISSING
    models: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    strong: str = MISSING
    train_pairs: dict[str, int] = field(default_factory=dict)
    test_pairs: dict[str, int] = field(default_factory=dict)
    align_pairs: int = 400
    align_test_pairs: int = 300
    align_response: int = 128
    align_seeds: int = 1
    annotate: AnnotateConfig = field(default_factory=AnnotateConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    token_budget: int | None = None
    threads: int = 1
    device: str = "auto"
    finished_only: bool = False
    store: str = "runs/own"
    out: str = "results/own"


@dataclass
class BenchmarkConfig:
    workloads: list[str] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    batch_size: int = 16
    token_budget: int = 4096
    trl_micro: list[int] = field(default_factory=list)
    repeats: int = 3
    scaling: bool = True
    curve: list[str] = field(default_factory=list)
    curve_steps: int = 100
    annotation: list[int] = field(default_factory=list)
    threads: int | None = None
    device: str = "auto"
    data: str | None = None
    tokenizer: str | None = None
    results: str = "results"


@dataclass
class StoreConfig:
    action: str | None = None
    store: str = "runs/store"
    results: str = "results"
    stages: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    older_than_days: float = 7
    delete: bool = False


@dataclass
class LockAssetsConfig:
    assets: list[str] = field(default_factory=list)
    update: bool = False


@dataclass
class PreflightConfig:
    experiment: str = "table3"
    scale: str = "paper"
    seeds: list[int] | None = None
    store: str = "runs/store"
    overrides: list[str] = field(default_factory=list)
    gpu_gib: float | None = None
    disk_gib: float | None = None


# The commands with a configuration of their own, conf/command/<name>.yaml.
COMMANDS: dict[str, type] = {
    "reproduce": ReproduceConfig,
    "report": ReportConfig,
    "benchmark": BenchmarkConfig,
    "annotate": AnnotateConfig,
    "align": AlignConfig,
    "compare": CompareConfig,
    "own_results": OwnResultsConfig,
    "store": StoreConfig,
    "lock_assets": LockAssetsConfig,
    "preflight": PreflightConfig,
}


def register() -> None:
    """Make the schemas known to Hydra under the names that the defaults lists in conf/ begin with."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in COMMANDS.items():
        store.store(name=f"{name}_schema", node=node)
