"""The typed configuration: one dataclass per group of `conf/`. A key that is not named here does not exist.

What each key means, with its unit and its source in the paper, is written beside it in the YAML files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

CONF = Path(__file__).resolve().parents[2] / "conf"
LAUNCHES = ("none", "ddp", "fsdp", "deepspeed")  # how a training stage is spread over processes
SHARDED = ("fsdp", "deepspeed")  # those that give each process a part of the model
# Every TrainingConfig but gold.training, by its key.
TRAININGS = (
    *(f"annotator.{name}" for name in ("training", "sft_training", "dpo_training")),
    *("sft", "alignment", "gold.training"),
)


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
    positive: str | None = None
    pairs: int | None = None
    test_pairs: int | None = None
    test_fraction: float = 0.1
    max_tokens: int = 512
    layout: str | None = None
    length_rule: str = "longer_pair"
    test_prompts: str = "any"
    gold: str | None = None
    paper_counts: dict[str, int] = field(default_factory=dict)


@dataclass
class PairConfig:
    name: str = MISSING
    weak: str = MISSING
    strong: str = MISSING
    weak_revision: str | None = None
    strong_revision: str | None = None
    strong_chat: bool = False


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
    precision: str = "float32"


@dataclass
class LabeledConfig:
    other: str | None = None
    own_share: float = 1.0
    poison_fraction: float = 0.0


# Annotators whose weak model stays a language model. Only these read annotator.scoring.
POLICY_ANNOTATORS = ("dpo", "sft_dpo")
# Golds by what they are: exact in the synthetic world; reward models by path; those that compare two responses.
SYNTHETIC_GOLDS = ("oracle", "judge")
MODEL_GOLDS = ("huggingface", "skywork", "openassistant", "steamshp", "trl_qwen")
COMPARING_GOLDS = ("steamshp", "openai")
# How the judge behind an API is asked; its verdicts depend on its model and prompts alone.
JUDGE_SETTINGS = ("base_url", "cache", "concurrency", "timeout", "retries", "usd_per_million", "max_usd")


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
    engine: str = "transformers"
    precision: str = "float32"
    python: str | None = None


@dataclass
class OnlineConfig:
    reward: str = "none"
    reward_model: str | None = None
    reward_revision: str | None = None
    reward_chat: bool = False
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
    model: str | None = None
    prompt_file: str | None = None
    base_url: str | None = None
    cache: str = "runs/verdicts"
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 6
    usd_per_million: dict[str, float] = field(default_factory=dict)
    max_usd: float | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class LoggerConfig:
    name: str = MISSING
    project: str = "cwpo"
    entity: str | None = None
    mode: str = "auto"


@dataclass
class DataSize:
    train: int = MISSING
    test: int = MISSING
    prompt: float = MISSING
    response: float = MISSING


@dataclass
class PlanConfig:
    tflops: float | None = None
    utilisation: float = 0.35
    generation_utilisation: float = 0.02
    parameters: dict[str, float] = field(default_factory=dict)
    data: dict[str, DataSize] = field(default_factory=dict)


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
    launch: str = "none"
    processes: int = 1
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    scale_name: str = MISSING
    data_source: str = MISSING
    allow_unpinned: bool = False
    models: dict[str, str] = field(default_factory=dict)
    reward_models: dict[str, str] = field(default_factory=dict)
    judge: str = "judge"
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
    plan: PlanConfig = field(default_factory=PlanConfig)
