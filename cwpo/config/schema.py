"""The typed configuration: one dataclass per group of `conf/`. A key that is not named here does not exist.

A field also holds the rules for its values (cwpo.config.rules). The YAML files explain each key, its unit and source.
"""

from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from cwpo.config import rules
from cwpo.runtime import NATIVE, PRECISIONS

CONF = Path(__file__).resolve().parents[2] / "conf"
# Stages that `until` may name, in order. `pretrain` is no such stage: it runs when a stage needs a synthetic model.
STAGES = (
    "prepare mix_unlabeled mix_labels train_annotator annotate train_gold score_gold assess select weight sft reference align "
    "online_align embed generate_sft generate divergence evaluate"
).split()
# Learning-rate schedules of transformers that need no settings of their own.
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "polynomial", "inverse_sqrt")


@dataclass
class DataConfig:
    name: str = rules.ruled(MISSING, rules.cell)
    source: str = rules.one_of("world", "hub", "jsonl")
    world: str | None = None
    label_flip: float | None = rules.between(0, 0.5, "[)", None)
    counterpart: str | None = None
    path: Any = None
    revision: str | None = rules.ruled(None, rules.revision)
    folders: list[str] = rules.ruled([], rules.inner_folder)
    columns: dict[str, str] = field(default_factory=dict)
    positive: str | None = rules.one_of("a", "b", default=None)
    pairs: int | None = rules.at_least(4, None, rules.PAIRS)
    test_pairs: int | None = rules.at_least(2, None, rules.PAIRS)
    test_fraction: float = rules.between(0, 1, "()", 0.1)
    max_tokens: int = rules.above_zero(512)
    layout: str | None = rules.listed_in("cwpo.data.hub:LAYOUTS", None)
    turns: str = rules.one_of("all", "first", default="all")
    length_rule: str = rules.listed_in("cwpo.data.lengths:RULES", "longer_pair")
    test_prompts: str = rules.one_of("any", "unseen", "unseen_once", default="any")
    gold: str | None = None
    paper_counts: dict[str, int] = field(default_factory=dict)


@dataclass
class PairConfig:
    name: str = MISSING
    weak: str = rules.ruled(MISSING, rules.cell)
    strong: str = rules.ruled(MISSING, rules.cell)
    weak_revision: str | None = rules.ruled(None, rules.revision)
    strong_revision: str | None = rules.ruled(None, rules.revision)
    strong_chat: bool = False
    batch_size: int = rules.above_zero(64)
    micro_batch_size: int = rules.above_zero(16)

    def __post_init__(self) -> None:
        # A slash at the end would hide the last part of a folder's path, which tells the family and stands in tables.
        self.weak, self.strong = self.weak.rstrip("/"), self.strong.rstrip("/")


@dataclass
class TrainingConfig:
    epochs: float = rules.above_zero()
    learning_rate: float | None = rules.above_zero(None)
    batch_size: int = rules.above_zero()
    micro_batch_size: int | None = rules.above_zero(None)
    scheduler: str = rules.one_of(*SCHEDULERS, default="cosine")
    warmup_steps: int = rules.at_least(0, 0)
    weight_decay: float = rules.at_least(0, 0.0)
    max_grad_norm: float = rules.above_zero(1.0)
    optimizer: str = rules.listed_in("cwpo.runtime:optimizers", "adamw_torch")
    gradient_checkpointing: bool = False
    precision: str = rules.one_of(*PRECISIONS, NATIVE, default="float32")


@dataclass
class UpdateSizes:
    """Learning rates, here called update sizes, for one family of strong models.

    matched: one rate for all arms.
    own_best: {"objective/method": the rate at which the mean gold reward of this method is highest}.
    """

    matched: float = rules.above_zero()
    own_best: dict[str, float] = rules.above_zero({})


@dataclass
class LabeledConfig:
    other: str | None = None
    own_share: float = rules.between(0, 1, "[]", 1.0)
    poison_fraction: float = rules.between(0, 1, "[)", 0.0)
    unlabeled: str = rules.one_of("own", "both", "eq19", default="own")


@dataclass
class TablesConfig:
    """Settings of single tables and figures that conf/scale/ sets and conf/experiment/ uses: they differ by scale."""

    table6_assessed_on: str = "test"
    table24_unlabeled: str = "own"
    table25_unlabeled: str = "own"
    figure6_embedding: str | None = None


# Annotators that are language models trained by DPO. Only these read annotator.scoring.
POLICY_ANNOTATORS = ("dpo", "sft_dpo")
# Gold models: those for the synthetic world only; those that need a gold.path; those that compare two responses.
SYNTHETIC_GOLDS = ("oracle", "judge")
MODEL_GOLDS = ("huggingface", "skywork", "openassistant", "steamshp", "trl_qwen")
COMPARING_GOLDS = ("steamshp", "openai")
# Settings of requests to a judge behind an API. Its verdicts do not depend on them, only on its model and prompts.
JUDGE_SETTINGS = ("base_url", "cache", "concurrency", "timeout", "retries", "usd_per_million", "max_usd")


@dataclass
class AnnotatorConfig:
    name: str = rules.file_in(CONF / "annotator")
    head_std: float = rules.above_zero(0.01)
    beta: float = rules.above_zero(0.5)
    scoring: str = rules.one_of("likelihood", "implicit", default="likelihood")
    assessed_on: str = rules.one_of("test", "unlabeled", default="test")
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sft_training: TrainingConfig = field(default_factory=TrainingConfig)
    dpo_training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class SelectionConfig:
    kind: str = rules.one_of("all", "top_fraction", "threshold", default="all")
    value: float | None = rules.between(0, 1, "[]", None)


@dataclass
class MethodConfig:
    name: str = rules.ruled(MISSING, rules.cell)
    labels: str = rules.one_of("human", "weak", "gold", "flips")
    pairs: str = rules.one_of("unlabeled", "labeled", "all", default="unlabeled")
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    equal_steps: bool = False
    sft_labels: str = rules.one_of("own", "human", default="own")


@dataclass
class WeightingConfig:
    name: str = rules.file_in(CONF / "weighting")
    scale: float = rules.above_zero(1.0)
    normalize: bool = False
    permute: bool = False


@dataclass
class ObjectiveConfig:
    name: str = rules.file_in(CONF / "objective")
    beta: float = rules.above_zero(0.5)
    flip_rate: float = rules.between(0, 0.5, "[)", 0.0)
    average_logps: bool = False


@dataclass
class LoraConfig:
    enabled: bool = False
    r: int = rules.above_zero(8)
    alpha: int = rules.above_zero(16)
    dropout: float = rules.between(0, 1, "[)", 0.05)
    targets: str = rules.one_of("all-linear", "peft", default="all-linear")
    base_dtype: str = rules.one_of("float32", "bfloat16", default="float32")
    save: str = rules.one_of("merged", "adapters", default="merged")


@dataclass
class GenerationConfig:
    temperature: float = rules.above_zero(0.95)
    top_k: int = rules.at_least(0, 0)
    max_new_tokens: int = rules.above_zero()
    batch_size: int = rules.above_zero(128)
    engine: str = rules.one_of("transformers", "vllm", default="transformers")
    precision: str = rules.one_of(*PRECISIONS, default="float32")
    python: str | None = None


@dataclass
class OnlineConfig:
    reward: str = rules.one_of("none", "annotator", "reward_model", default="none")
    reward_model: str | None = None
    reward_revision: str | None = rules.ruled(None, rules.revision)
    reward_chat: bool = False
    batches_per_round: int = rules.at_least(1, 1)
    batch_size: int = rules.at_least(1, 64)


@dataclass
class EmbeddingConfig:
    path: str | None = None
    revision: str | None = rules.ruled(None, rules.revision)


@dataclass
class EvaluationConfig:
    prompts: int | None = rules.at_least(2, None, rules.PAIRS)


@dataclass
class GoldConfig:
    name: str = rules.file_in(CONF / "gold")
    path: str | None = None
    revision: str | None = rules.ruled(None, rules.revision)
    holdout: float = rules.between(0, 1, "[)", 0.0)
    temperature: float = rules.above_zero(1.0)
    batch_size: int = rules.above_zero(32)
    model: str | None = None
    asks: str = rules.listed_in("cwpo.models.judge:QUESTIONS", "both")
    prompt_file: str | None = None
    base_url: str | None = rules.ruled(None, rules.endpoint)
    cache: str = "runs/verdicts"
    concurrency: int = rules.above_zero(8)
    timeout: float = rules.above_zero(60.0)
    retries: int = rules.at_least(0, 6)
    usd_per_million: dict[str, float] = rules.at_least(0, {})
    max_usd: float | None = rules.at_least(0, None)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class LoggerConfig:
    name: str = rules.file_in(CONF / "logger")
    project: str = rules.ruled("cwpo", rules.wandb_name)
    entity: str | None = rules.ruled(None, rules.wandb_name)
    mode: str = rules.one_of("auto", "online", "offline", default="auto")


@dataclass
class DataSize:
    train: int = MISSING
    test: int = MISSING
    prompt: float = MISSING
    response: float = MISSING


@dataclass
class PlanConfig:
    tflops: float | None = rules.above_zero(None)
    utilisation: float = rules.between(0, 1, "(]", 0.35)
    generation_utilisation: float = rules.between(0, 1, "(]", 0.02)
    parameters: dict[str, float] = field(default_factory=dict)
    data: dict[str, DataSize] = field(default_factory=dict)


@dataclass
class WorldConfig:
    sequences: int = rules.above_zero(200_000)
    batch_size: int = rules.above_zero(128)
    learning_rate: float = rules.above_zero(3e-3)
    seed: int = rules.at_least(0, 0, rules.SEED)


@dataclass
class Config:
    name: str = rules.ruled("custom", rules.file_name, rules.cell)
    seed: int = rules.at_least(0, 0, rules.SEED)
    human_fraction: float = rules.between(0, 1, "()", 0.3)
    unlabeled_fraction: float | None = rules.between(0, 1, "()", None)
    until: str | None = rules.one_of(*STAGES, default=None)
    against: str | None = rules.file_in(CONF / "method", None)
    store: str = "runs/store"
    results: str = "results"
    jobs: int = rules.at_least(1, 1, rules.PROCESSES)
    threads: int = rules.at_least(1, 1, rules.PROCESSES)
    token_budget: str | None = rules.ruled(None, rules.tokens)
    device: str = rules.ruled("auto", rules.device)
    launch: str = rules.one_of("none", "ddp", "fsdp", default="none")
    processes: int = rules.at_least(1, 1, rules.PROCESSES)
    checkpoint_minutes: float | None = rules.above_zero(None)
    checkpoint_steps: int | None = rules.at_least(1, None)
    operating_point: str = rules.one_of("matched", "own_best", default="matched")
    update_sizes: dict[str, UpdateSizes] = rules.above_zero({})
    scale_name: str = rules.ruled(MISSING, rules.file_name, rules.cell)
    data_source: str = MISSING
    allow_unpinned: bool = False
    models: dict[str, str] = field(default_factory=dict)
    reward_models: dict[str, str] = field(default_factory=dict)
    judge: str = rules.one_of("judge", "openai", default="judge")
    data: DataConfig = field(default_factory=DataConfig)
    pair: PairConfig = field(default_factory=PairConfig)
    annotator: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    labeled: LabeledConfig = field(default_factory=LabeledConfig)
    tables: TablesConfig = field(default_factory=TablesConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    weighting: WeightingConfig = field(default_factory=WeightingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sft: TrainingConfig = field(default_factory=TrainingConfig)
    alignment: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gold: GoldConfig = field(default_factory=GoldConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)


def trainings(config: Any, prefix: str = "") -> dict[str, TrainingConfig]:
    """Returns {dotted key: TrainingConfig} for every TrainingConfig inside a configuration."""
    by_key: dict[str, TrainingConfig] = {}
    for name, value in vars(config).items():
        if isinstance(value, TrainingConfig):
            by_key[f"{prefix}{name}"] = value
        elif is_dataclass(value):
            by_key |= trainings(value, f"{prefix}{name}.")
    return by_key
