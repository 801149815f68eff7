"""Typed schemas of conf/command/<name>.yaml. They serve all commands but run and plan, which use cwpo.config.schema."""

import functools
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cwpo.config import rules
from cwpo.config.schema import CONF, Config, LoraConfig, TrainingConfig


def completed_later(schema: type) -> Any:
    """Returns a field for a section whose required keys the command itself sets later."""
    return field(default_factory=schema, metadata={"completed_later": True})


@dataclass
class ReproduceConfig:
    experiment: str = "core"
    scale: str = rules.file_in(CONF / "scale", "toy")
    seeds: list[int] | None = rules.at_least(0, None, rules.SEED)
    jobs: int | None = rules.at_least(1, None, rules.PROCESSES)
    threads: int = rules.at_least(1, 1, rules.PROCESSES)
    store: str = "runs/store"
    results: str = "results"
    launcher: str | None = rules.file_in(CONF / "hydra" / "launcher", None)
    launcher_settings: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


@dataclass
class ReportConfig:
    scale: str = rules.ruled("toy", rules.file_name)
    results: str = "results"


@dataclass
class OwnTrainingConfig(TrainingConfig):
    learning_rate: float | None = rules.above_zero(None)  # type: ignore[assignment]  # null: chosen by the model's size


@dataclass
class OwnAnnotatorConfig:
    kind: str = rules.one_of("bt", "pairrm", default="bt")
    path: str | None = None
    members: int = rules.at_least(1, 1)
    head_std: float = rules.above_zero(0.01)
    training: OwnTrainingConfig = field(default_factory=OwnTrainingConfig)


@dataclass
class AnnotateConfig:
    data: str = MISSING
    columns: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    positive: str | None = rules.one_of("a", "b", default=None)
    show: int | None = rules.at_least(1, None)
    ties: str = rules.one_of("drop", "soft", default="drop")
    model: str | None = None
    revision: str | None = rules.ruled(None, rules.revision)
    chat: str = rules.ruled("auto", rules.chat)
    out: str = MISSING
    max_tokens: int = rules.above_zero(512)
    annotator: OwnAnnotatorConfig = field(default_factory=OwnAnnotatorConfig)
    tune: bool = False
    folds: int | None = rules.at_least(2, None)
    holdout_above: int = rules.at_least(0, 1000)
    curve: list[float] = rules.between(0, 1, "()", [])
    curve_folds: int = rules.at_least(1, 1)
    weighting: str = rules.listed_in("cwpo.weighting:WEIGHTINGS", "c1")
    calibrate: bool = False
    include_labeled: bool = True
    target_accuracy: float = rules.between(0.5, 1, "()", 0.65)
    seed: int = rules.at_least(0, 0, rules.SEED)
    threads: int | None = rules.at_least(1, None, rules.PROCESSES)
    device: str = rules.ruled("auto", rules.device)
    token_budget: int | None = rules.above_zero(None)


@dataclass
class SftConfig(OwnTrainingConfig):
    epochs: float = rules.at_least(0)  # 0 skips SFT


@dataclass
class AlignConfig:
    preferences: str = MISSING
    preferences_split: str | None = None
    model: str = MISSING
    revision: str | None = rules.ruled(None, rules.revision)
    chat: str = rules.ruled("auto", rules.chat)
    out: str = MISSING
    weight_column: str = "weight"
    keep: float = rules.between(0, 1, "(]", 1.0)
    max_tokens: int = rules.above_zero(512)
    objective: str = rules.file_in(CONF / "objective", "dpo")
    beta: float = rules.above_zero(0.5)
    flip_rate: float = rules.between(0, 0.5, "[)", 0.1)
    average_logps: bool = False
    sft: SftConfig = field(default_factory=SftConfig)
    alignment: OwnTrainingConfig = field(default_factory=OwnTrainingConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    test: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    positive: str | None = rules.one_of("a", "b", default=None)
    seed: int = rules.at_least(0, 0, rules.SEED)
    threads: int | None = rules.at_least(1, None, rules.PROCESSES)
    device: str = rules.ruled("auto", rules.device)
    token_budget: int | None = rules.above_zero(None)


@dataclass
class CompareConfig:
    before: str = MISSING
    after: str = MISSING
    prompts: str = MISSING
    column: str = "prompt"
    split: str | None = None
    gold: str = MISSING
    revision: str | None = rules.ruled(None, rules.revision)
    chat: str = rules.ruled("auto", rules.chat)
    most: int = rules.at_least(2, 200)
    max_new_tokens: int = rules.above_zero(128)
    temperature: float = rules.above_zero(0.95)
    batch_size: int = rules.above_zero(32)
    seed: int = rules.at_least(0, 0, rules.SEED)
    threads: int | None = rules.at_least(1, None, rules.PROCESSES)
    device: str = rules.ruled("auto", rules.device)
    out: str = MISSING


@dataclass
class OwnResultsConfig:
    data: str = MISSING
    models: dict[str, str] = field(default_factory=dict)
    sources: list[str] = rules.listed_in("cwpo.bench.real_pairs:SOURCES", [])
    strong: str = MISSING
    train_pairs: dict[str, int] = rules.at_least(2, {})
    test_pairs: dict[str, int] = rules.at_least(2, {})
    align_pairs: int = rules.at_least(2, 400)
    align_test_pairs: int = rules.at_least(2, 300)
    align_response: int = rules.at_least(2, 128)
    align_seeds: int = rules.between(1, 3, "[]", 1)
    defaults_pairs: int = rules.at_least(60, 200)
    defaults_seeds: int = rules.between(0, 3, "[]", 3)
    annotate: AnnotateConfig = completed_later(AnnotateConfig)
    align: AlignConfig = completed_later(AlignConfig)
    token_budget: int | None = rules.above_zero(None)
    threads: int = rules.at_least(1, 1, rules.PROCESSES)
    device: str = rules.ruled("auto", rules.device)
    finished_only: bool = False
    store: str = "runs/own"
    out: str = "results/own"


@dataclass
class BenchmarkConfig:
    workloads: list[str] = rules.listed_in("cwpo.bench.workloads:WORKLOADS", [])
    sides: list[str] = rules.listed_in("cwpo.bench.measure:SIDES", [])
    pairs: dict[str, int] = rules.at_least(1, {})
    batch_size: int = rules.at_least(1, 16)
    token_budget: int = rules.at_least(1, 4096)
    trl_micro: list[int] = rules.at_least(1, [])
    repeats: int = rules.at_least(1, 3)
    inference: list[str] = rules.listed_in("cwpo.bench.workloads:WORKLOADS", [])
    prompts: int = rules.at_least(1, 32)
    new_tokens: int = rules.at_least(1, 64)
    chain: list[str] = field(default_factory=list)
    annotation: list[int] = rules.at_least(1, [])
    threads: int | None = rules.at_least(1, None, rules.PROCESSES)
    device: str = rules.ruled("auto", rules.device)
    data: str | None = None
    tokenizer: str | None = None
    results: str = "results"


@dataclass
class StoreConfig:
    action: str = rules.listed_in("cwpo.commands.store:ACTIONS")
    store: str = "runs/store"
    results: str = "results"
    stages: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    older_than_days: float = rules.at_least(0, 7)
    delete: bool = False
    out: str | None = None
    dtype: str = rules.one_of("float32", "base", default="float32")


@dataclass
class LockAssetsConfig:
    assets: list[str] = field(default_factory=list)
    update: bool = False


@dataclass
class PreflightConfig:
    experiment: str = "table3"
    scale: str = rules.file_in(CONF / "scale", "paper")
    seeds: list[int] | None = rules.at_least(0, None, rules.SEED)
    store: str = "runs/store"
    overrides: list[str] = field(default_factory=list)
    calibrate: bool = False
    gpu_gib: float | None = rules.above_zero(None)
    disk_gib: float | None = rules.above_zero(None)


# The commands that have a configuration of their own.
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


@functools.cache
def register() -> None:
    """Registers the schemas with Hydra. Defaults lists in conf/ name them "schema" and "<command>_schema".

    Later calls do nothing.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in COMMANDS.items():
        store.store(name=f"{name}_schema", node=node)
