"""How much memory of one GPU each stage wants, from the models' shapes alone.

Weights, gradients and Adam's two moments are float32 (4 bytes each); with adapters only theirs are trained. Activations follow
Korthikanti et al. (2022): 34 bytes a token, layer and hidden unit in 16 bits, the same again in 32; with checkpointing each
layer keeps its input, and one layer at a time the rest. Logits are two float32 copies. It is an estimate: kernels and
fragmentation take SPARE on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cwpo.models.memory import cache_numbers

GIB = 2**30
SPARE = 1.1
FLOAT = 4
ACTIVATION = 34  # bytes a token, layer and hidden unit in 16 bits
SCORING = 2  # times the tokens of training are computed at once without gradients


@dataclass(frozen=True)
class Shape:
    """A model's size as far as its config tells."""

    parameters: int
    linear: tuple[tuple[int, int], ...]  # inputs and outputs of every linear layer but the LM head
    layers: int
    hidden: int
    vocabulary: int
    cache: int  # numbers a token adds to the key-value cache

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters on all linear layers."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linear)


@dataclass(frozen=True)
class Need:
    """GiB of one GPU that a stage wants with a model."""

    stage: str
    model: str
    weights: float
    training: float
    activations: float

    @property
    def total(self) -> float:
        return SPARE * (self.weights + self.training + self.activations)


def shape_of(config: Any, kind: Any) -> Shape:
    """The shape of `kind`.from_config(config), an auto class of transformers; made without any weights."""
    with torch.device("meta"):
        model = kind.from_config(config)
    head = model.get_output_embeddings()
    linear = tuple(
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return Shape(
        parameters=model.num_parameters(),
        linear=linear,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        cache=cache_numbers(config),
    )


def training_need(stage: str, name: str, shape: Shape, training: Any, tokens: int, lora: Any = None) -> Need:
    """Of training with `tokens` at once; full, or with adapters where `lora` has them enabled."""
    trained = shape.adapters(lora.r) if lora is not None and lora.enabled else shape.parameters
    width = 1 if getattr(training, "precision", "float32") == "bfloat16" else 2
    layer = width * ACTIVATION * shape.hidden
    kept = (
        (2 * width * shape.hidden) * shape.layers + layer
        if training.gradient_checkpointing
        else layer * shape.layers
    )
    logits = 0 if stage == "train_annotator" else 2 * FLOAT * shape.vocabulary
    adapters = trained if trained != shape.parameters else 0
    return Need(
        stage,
        name,
        weights=FLOAT * (shape.parameters + adapters) / GIB,
        training=3 * FLOAT * trained / GIB,
        activations=tokens * (kept + logits) / GIB,
    )


def scoring_need(
    stage: str, name: str, shape: Shape, tokens: int, *, cached: bool, size: int = FLOAT
) -> Need:
    """Of a model that only reads, with SCORING * `tokens` at once; `cached` keeps keys and values, `size` bytes a weight."""
    columns = SCORING * tokens
    layer = ACTIVATION * shape.hidden * size / 2
    # Sampling needs the logits of one token a sequence; scoring needs them all.
    bytes_each = layer + (size * shape.cache if cached else 2 * FLOAT * shape.vocabulary)
    return Need(
        stage,
        name,
        weights=size * shape.parameters / GIB,
        training=0.0,
        activations=columns * bytes_each / GIB,
    )


def gpus() -> list[float]:
    """GiB of each GPU here."""
    return [torch.cuda.get_device_properties(i).total_memory / GIB for i in range(torch.cuda.device_count())]


def stage_needs(cfg: Any, shapes: dict[str, Shape]) -> Iterator[Need]:
    """What the stages of an arm want; `shapes` by the key that names the model: pair.weak, pair.strong, gold.path."""
    tokens = cfg.token_budget or max(
        (training.micro_batch_size or training.batch_size) * 2 * cfg.data.max_tokens
        for training in (cfg.alignment,)
    )
    weak, strong, gold = (shapes.get(key) for key in ("pair.weak", "pair.strong", "gold.path"))
    if weak is not None and cfg.method.labels in ("weak", "flips"):
        training = (
            cfg.annotator.training if cfg.annotator.name in ("bt", "pairrm") else cfg.annotator.dpo_training
        )
        yield training_need("train_annotator", cfg.pair.weak, weak, training, tokens)
    if strong is not None:
        yield training_need("sft", cfg.pair.strong, strong, cfg.sft, tokens, cfg.lora)
        yield training_need("align", cfg.pair.strong, strong, cfg.alignment, tokens, cfg.lora)
        yield scoring_need("reference", cfg.pair.strong, strong, tokens, cached=False)
        yield scoring_need("generate", cfg.pair.strong, strong, tokens, cached=True)
    if gold is not None:
        yield Need(
            "evaluate", cfg.gold.path, weights=2 * gold.parameters / GIB, training=0.0, activations=1.0
        )
