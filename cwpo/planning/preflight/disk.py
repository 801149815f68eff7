"""What the stages of an experiment write to the store, from what they really save."""

from collections.abc import Iterable

from omegaconf import OmegaConf

from cwpo.pipeline.graph import Node
from cwpo.planning.preflight.memory import FLOAT, GIB, Shape


def model_gib(node: Node, shape: Shape) -> float:
    """The model that a training stage writes: whole in float32, or its adapters in float32."""
    lora = node.config.get("lora")
    alone = lora is not None and lora["enabled"] and lora["save"] == "adapters"
    return FLOAT * (shape.adapters(OmegaConf.create(lora)) if alone else shape.parameters) / GIB


def store_gib(nodes: Iterable[Node], shapes: dict[tuple[str, str], Shape]) -> float:
    """The models of these stages; tables and samples are small beside them. `shapes` by key and path, as pair.strong's."""
    written = 0.0
    for node in nodes:
        who = node.stage.trains
        shape = shapes.get((f"pair.{who}", node.config.get(who) or strong_of(node))) if who else None
        written += model_gib(node, shape) if shape else 0.0
    return written


def strong_of(node: Node) -> str:
    """The strong model that an aligned model descends from."""
    return next(str(each.config["strong"]) for each in node.ancestors() if each.stage.name == "sft")
