"""Estimates the memory of one GPU that each stage needs, and the disk of the store, from the models' shapes alone.

Frozen weights are in lora.base_dtype; other weights, adapters, gradients and Adam's two moments are float32. For the
backward pass a layer keeps the outputs of its linear layers, in 16 bits, and about LAYER bytes more per token and
hidden unit, LAYER + LEARNING if its own weights are trained. With gradient checkpointing a layer keeps only its input;
the layer being computed then needs WORKING times what it would keep otherwise. At most LOGITS logits exist at once,
except in a training by several processes. Kernels and fragmentation multiply the activations by SPARE. These constants
come from bytes counted on OPT, Llama and Qwen2 (tests/planning/test_memory.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import OmegaConf

from cwpo.config.schema import POLICY_ANNOTATORS
from cwpo.models.heads import LOGITS
from cwpo.models.memory import PER_LOGIT, cache_numbers
from cwpo.models.reward_models import SMALL
from cwpo.pipeline.graph import Node

GIB = 2**30
SPARE = 1.1
FLOAT = 4
LAYER, LEARNING = 10, 8  # bytes per token and hidden unit, in 16 bits
WORKING = 1.75
LOGIT = 12  # bytes of a logit: in 16 bits and in 32, and its gradient
SCORING = 2  # a pass without gradients holds this many times the tokens of a training batch


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, as its config gives them. `cache`: numbers that a token adds to the key-value cache.

    `linear`: (name, inputs, outputs) of all linear layers but the LM head; `chosen`: names that PEFT adapts by default.
    """

    parameters: int
    linear: tuple[tuple[str, int, int], ...]
    layers: int
    hidden: int
    vocabulary: int
    cache: int
    chosen: tuple[str, ...] = ()

    def adapters(self, lora: Any) -> int:
        """Number of parameters of the adapters that the LoraConfig `lora` adds to the model."""
        adapted = [each for each in self.linear if lora.targets != "peft" or each[0] in self.chosen]
        return sum(lora.r * (inputs + outputs) for _, inputs, outputs in adapted)

    def kept(self, learning: bool) -> float:
        """Bytes per token that a layer keeps for a 16-bit backward pass. `learning`: its weights are trained."""
        outputs = [outputs for _, _, outputs in self.linear]
        widest = max(outputs, default=0)
        gated = 2 * widest if outputs.count(widest) >= 2 * self.layers else 0  # of a gated MLP
        beside = LAYER * self.hidden + gated
        return 2 * sum(outputs) / self.layers + beside + (LEARNING * self.hidden + gated if learning else 0)


@dataclass(frozen=True)
class Need:
    """GiB of one GPU that a stage needs for a model. `training`: the GiB of gradients and Adam's moments."""

    stage: str
    model: str
    weights: float
    training: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.training + SPARE * self.activations


def shape_of(config: Any, kind: Any) -> Shape:
    """Returns the sizes of `kind`.from_config(config), without weights; `kind` is an Auto class of transformers."""
    with torch.device("meta"):
        model = kind.from_config(config)
    head = model.get_output_embeddings()
    linear = tuple(
        (name.rpartition(".")[2], module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return Shape(
        parameters=model.num_parameters(),
        linear=linear,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        cache=cache_numbers(config),
        chosen=tuple(_chosen_by_peft().get(config.model_type, ())),
    )


def _chosen_by_peft() -> dict[str, list[str]]:
    try:
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as chosen
    except ImportError:  # then no adapters can be trained either
        return {}
    return chosen


def training_need(
    stage: str,
    name: str,
    shape: Shape,
    training: Any,
    tokens: int,
    lora: Any = None,
    launch: str = "none",
    share: int = 1,
) -> Need:
    """Returns the GPU memory to train a model, or only the adapters that `lora` enables, on `tokens` tokens at once.

    `share` GPUs divide weights, gradients and moments. With launch=ddp or fsdp the logits of all tokens exist at once.
    """
    adapters = shape.adapters(lora) if lora is not None and lora.enabled else 0
    size = 2 if adapters and lora.base_dtype == "bfloat16" else FLOAT
    weights = size * shape.parameters + FLOAT * adapters
    wide = training.precision != "bfloat16"
    if not wide and size == FLOAT and not (adapters and training.gradient_checkpointing):
        weights += 2 * shape.parameters  # autocast's copies in 16 bits
    layer = (2 if wide else 1) * shape.kept(learning=not adapters)
    numbers = tokens * shape.vocabulary
    logits = 0 if stage == "train_annotator" else LOGIT * (min(numbers, LOGITS) if launch == "none" else numbers)
    if training.gradient_checkpointing:  # hidden states have the dtype of the weights
        activations = tokens * size * shape.hidden * shape.layers + max(tokens * WORKING * layer, logits)
    else:
        activations = tokens * layer * shape.layers + logits
    learning = 3 * FLOAT * (adapters or shape.parameters)
    return Need(stage, name, weights / share / GIB, learning / share / GIB, activations / GIB)


def scoring_need(stage: str, name: str, shape: Shape, tokens: int, size: int = FLOAT) -> Need:
    """Returns the GPU memory of a pass without gradients, with a model whose weights have `size` bytes each.

    `tokens`: number of tokens of a training batch. The pass holds SCORING times as many, and not all logits at once.
    """
    columns = SCORING * tokens
    layer = WORKING * shape.kept(learning=False) * size / 2
    kept = LOGIT * min(columns * shape.vocabulary, LOGITS)
    return Need(stage, name, size * shape.parameters / GIB, 0.0, (columns * layer + kept) / GIB)


def sampling_need(stage: str, name: str, shape: Shape, tokens: int, size: int = FLOAT) -> Need:
    """Returns the GPU memory to sample one response at a time; if more is free, sampling_batches makes larger batches.

    `size`: bytes of a weight. `tokens`: the number of tokens of the longest prompt with its response; their keys and
    values are kept.
    """
    layer = WORKING * shape.kept(learning=False) * size / 2
    kept = tokens * size * shape.cache + PER_LOGIT * shape.vocabulary
    return Need(stage, name, size * shape.parameters / GIB, 0.0, (tokens * layer + kept) / GIB)


def gpus() -> list[float]:
    """Returns the memory of each GPU of this machine, in GiB."""
    return [torch.cuda.get_device_properties(i).total_memory / GIB for i in range(torch.cuda.device_count())]


def stage_needs(cfg: Any, shapes: dict[str, Shape]) -> Iterator[Need]:
    """Yields the GPU memory of each stage of an arm whose model (pair.weak, pair.strong, gold.path) is in `shapes`."""
    pair = 2 * cfg.data.max_tokens  # with token_budget=auto a step may hold as little as one pair
    rows = cfg.alignment.micro_batch_size or cfg.alignment.batch_size // cfg.processes
    tokens = {None: rows * pair, "auto": pair}.get(cfg.token_budget) or int(cfg.token_budget)
    at_once = rows * pair if cfg.launch == "fsdp" else tokens  # fsdp takes micro-batches by rows
    split: Any = {"launch": cfg.launch, "share": cfg.processes if cfg.launch == "fsdp" else 1}
    weak, strong, gold = (shapes.get(key) for key in ("pair.weak", "pair.strong", "gold.path"))
    if weak is not None:
        training = cfg.annotator.training if cfg.annotator.name in ("bt", "pairrm") else cfg.annotator.dpo_training
        yield training_need("train_annotator", cfg.pair.weak, weak, training, at_once, **split)
    if strong is not None:
        yield training_need("sft", cfg.pair.strong, strong, cfg.sft, at_once, cfg.lora, **split)
        yield training_need("align", cfg.pair.strong, strong, cfg.alignment, at_once, cfg.lora, **split)
        narrow = cfg.lora.enabled and cfg.lora.base_dtype == "bfloat16"
        yield scoring_need("reference", cfg.pair.strong, strong, tokens, 2 if narrow else FLOAT)
        narrow = narrow and cfg.generation.precision != "float32"
        longest = cfg.data.max_tokens + cfg.generation.max_new_tokens
        yield sampling_need("generate", cfg.pair.strong, strong, longest, 2 if narrow else FLOAT)
    if gold is not None:
        size = FLOAT if gold.parameters <= SMALL else 2
        yield Need("evaluate", cfg.gold.path, weights=size * gold.parameters / GIB, training=0.0, activations=1.0)


def store_gib(nodes: Iterable[Node], shapes: dict[tuple[str, str], Shape]) -> float:
    """Returns the GiB on disk of the models that the stages `nodes` write; tables are small and not counted.

    `shapes` has the sizes of each model by (config key, path). A model is written in float32: whole, or with
    lora.save=adapters its adapters alone. A DPO annotator's reference lies beside it.
    """
    written = 0.0
    for node in nodes:
        if who := node.stage.trains:
            # an aligned model descends from the strong model of its SFT
            sft: Any = next((each.config["strong"] for each in node.ancestors() if each.stage.name == "sft"), None)
            shape = shapes.get((f"pair.{who}", node.config.get(who) or sft))
            lora: Any = OmegaConf.create(node.config.get("lora") or {})
            alone = lora and lora.enabled and lora.save == "adapters"
            models = 2 if node.config.get("annotator", {}).get("name") in POLICY_ANNOTATORS else 1
            written += models * FLOAT * (shape.adapters(lora) if alone else shape.parameters) / GIB if shape else 0.0
    return written
