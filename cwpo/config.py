"""The typed configuration: one dataclass per group of `conf/`. A key that is not named here does not exist.

What each key means, with its unit and its source in the paper, is written beside it in the YAML files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

CONF = Path(__file__).resolve().parent.parent / "conf"


@dataclass
class DataConfig:
    name: str = MISSING
    source: str = MISSING
    world: str | None = None
    label_flip: float | None = None
    counterpart: str | None = None
    path: Any = None
    revision: str | None = None
    folders: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    pairs: int | None = None
    test_pairs: int | None = None
    test_fraction: float = 0.1
    max_tokens: int = 512


@dataclass
class PairConfig:
    name: str = MISSING
    weak: str = MISSING
    strong: str = MISSING
    weak_revision: str | None = None
    strong_revision: str | None = None


@dataclass
class TrainingConfig:
    epochs: float = MISSING
    learning_rate: float = MISSING
    batch_size: int = MISSING
    micro_batch_size: int | None = None
    scheduler: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch"
    gradient_checkpointing: bool = False


@dataclass
class LabeledConfig:
    other: str | None = None
    own_share: float = 1.0
    poison_fraction: float = 0.0


# Annotators whose weak model stays a language model. Only these read annotator.scoring.
POLICY_ANNOTATORS = ("dpo", "sft_dpo")


@dataclass
class AnnotatorConfig:
    name: str = MISSING
    head_std: float = 0.01
    beta: float = 0.5
    scoring: str = "likelihood"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sft_training: TrainingConfig = field(default_factory=TrainingConfig)
    dpo_training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class SelectionConfig:
    kind: str = "all"
    value: float | None = None


@dataclass
class MethodConfig:
    name: str = MISSING
    labels: str = MISSING
    pairs: str = "unlabeled"
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    equal_steps: bool = False
    sft_labels: str = "own"


@dataclass
class WeightingConfig:
    name: str = MISSING
    scale: float = 1.0
    normalize: bool = False
    permute: bool = False


@dataclass
class ObjectiveConfig:
    name: str = MISSING
    beta: float = 0.5
    flip_rate: float = 0.0
    average_logps: bool = False


@dataclass
class LoraConfig:
    enabled: bool = False
    r: int = 8
    alpha: int = 16
    dropout: float = 0.05


@dataclass
class GenerationConfig:
    temperature: float = 0.95
    max_new_tokens: int = MISSING
    batch_size: int = 128


@dataclass
class OnlineConfig:
    reward: str = "none"
    reward_model: str | None = None
    reward_revision: str | None = None
    batches_per_round: int = 1
    batch_size: int = 64


@dataclass
class EvaluationConfig:
    prompts: int | None = None


@dataclass
class GoldConfig:
    name: str = MISSING
    path: str | None = None
    revision: str | None = None
    holdout: float = 0.0
    temperature: float = 1.0
    batch_size: int = 32
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class LoggerConfig:
    name: str = MISSING
    project: str = "cwpo"
    entity: str | None = None
    mode: str = "auto"


@dataclass
class WorldConfig:
    sequences: int = 200_000
    batch_size: int = 128
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass
class Config:
    name: str = "custom"
    seed: int = 0
    human_fraction: float = 0.3
    unlabeled_fraction: float | None = None
    until: str | None = None
    store: str = "runs/store"
    results: str = "results"
    jobs: int = 1
    threads: int = 1
    token_budget: int | None = None
    device: str = "auto"
    scale_name: str = MISSING
    data_source: str = MISSING
    models: dict[str, str] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    pair: PairConfig = field(default_factory=PairConfig)
    annotator: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    labeled: LabeledConfig = field(default_factory=LabeledConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    weighting: WeightingConfig = field(default_factory=WeightingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sft: TrainingConfig = field(default_factory=TrainingConfig)
    alignment: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gold: GoldConfig = field(default_factory=GoldConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


@dataclass
class ReproduceConfig:
    experiment: str = "core"
    scale: str = "toy"
    seeds: list[int] | None = None
    jobs: int = 2
    threads: int = 1
    store: str = "runs/store"
    results: str = "results"
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
    ties: str = "drop"
    model: str | None = None
    revision: str | None = None
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
}


def register() -> None:
    """Make the schemas known to Hydra under the names that the defaults lists in conf/ begin with."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in COMMANDS.items():
        store.store(name=f"{name}_schema", node=node)
