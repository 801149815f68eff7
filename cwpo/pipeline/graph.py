"""The stages of one arm and how they depend on each other."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cwpo.config.assets import settled
from cwpo.config.schema import JUDGE_SETTINGS, STAGES, Config, trainings
from cwpo.pipeline.derived import PUBLISHED, WORLD, derived_config, other_data
from cwpo.stages.align import ALIGN
from cwpo.stages.annotate import annotate_stage
from cwpo.stages.assess import ASSESS
from cwpo.stages.base import Stage
from cwpo.stages.embed import EMBED
from cwpo.stages.evaluate import EVALUATE
from cwpo.stages.generate import GENERATE
from cwpo.stages.mix_labels import MIX_LABELS
from cwpo.stages.online_align import ONLINE_ALIGN
from cwpo.stages.prepare import PREPARE
from cwpo.stages.pretrain import PRETRAIN
from cwpo.stages.reference import REFERENCE
from cwpo.stages.score_gold import SCORE_GOLD
from cwpo.stages.select import SELECT
from cwpo.stages.sft import SFT
from cwpo.stages.train_annotator import train_annotator_stage
from cwpo.stages.train_gold import TRAIN_GOLD
from cwpo.stages.weight import WEIGHT
from cwpo.store.store import Store, fingerprint, stage_key

PATHS = (
    "path",
    "weak",
    "strong",
    "tokenizers",
    "reward_model",
    "prompt_file",
)  # keys whose values may be local files or folders
LOCAL = "content:"  # begins what stands in a key for a local path: a digest of the file or folder
# Settings that came after stores existed -> the value at which all is done as before; at it they are no part of a key.
LATER: dict[str, Any] = {
    **{f"data.{key}": value for key, value in PUBLISHED.items()},
    **{f"{training}.precision": "float32" for training in trainings(Config())},
    "generation.engine": "transformers",
    "generation.precision": "float32",
    "context": None,
    "strong_chat": False,
    "online.reward_chat": False,
    "gold.model": None,
    "gold.prompt_file": None,
}
# Settings that change how or where a stage works and not what comes out: no part of a key.
UNHASHED = (*(f"gold.{key}" for key in JUDGE_SETTINGS), "generation.python")
# Every kind of stage by name; stages of one kind may differ in the keys that they read.
KINDS = {
    stage.name: stage
    for stage in (
        *(ALIGN, ASSESS, EMBED, EVALUATE, GENERATE, MIX_LABELS, ONLINE_ALIGN, PREPARE, PRETRAIN, REFERENCE),
        *(SCORE_GOLD, SELECT, SFT, TRAIN_GOLD, WEIGHT, annotate_stage("bt"), train_annotator_stage("bt")),
    )
}
OTHER_PAIRS = 500  # added to the seed, it draws the pairs that the reward model of an online arm learns from


@dataclass(frozen=True)
class Node:
    """One stage of one arm. Two nodes of equal `key` are the same computation."""

    name: str
    stage: Stage
    config: dict[str, Any]
    hashed: dict[str, Any]
    parents: dict[str, Node] = field(repr=False)

    @functools.cached_property
    def key(self) -> str:
        parents = {role: node.key for role, node in self.parents.items()}
        return stage_key(self.stage.name, self.stage.version, self.hashed, parents)

    def folder(self, store: Store) -> Path:
        return store.folder(self.stage.name, self.key)

    def done(self, store: Store) -> bool:
        return store.has(self.stage.name, self.key)

    def ancestors(self) -> Iterator[Node]:
        """Every node this one needs, each once, parents before children, itself last."""
        seen: dict[str, Node] = {}

        def visit(node: Node) -> None:
            if node.key not in seen:
                for parent in node.parents.values():
                    visit(parent)
                seen[node.key] = node

        visit(self)
        yield from seen.values()


def nodes_of(cfg: Config, look: bool = True) -> dict[str, Node]:
    """The nodes of one arm by name, in an order in which they can run. Arms on human labels have no annotator.

    With look=False no checkpoint is asked for its context length, and the keys are only good for counting.
    """
    cfg = settled(cfg)
    plain = derived_config(cfg, look)
    nodes: dict[str, Node] = {}

    def add(name: str, stage: Stage, parents: Mapping[str, Node | None], **extra: Any) -> Node:
        config = _slice(plain | extra, stage.reads)
        nodes[name] = Node(
            name, stage, config, hashed_config(config), {r: p for r, p in parents.items() if p is not None}
        )
        return nodes[name]

    def pretrained(who: str, model: str | None) -> Node | None:
        return (
            add(f"pretrain_{who}", PRETRAIN, {}, model=model) if model and model.startswith(WORLD) else None
        )

    def reward(annotator: Node | None) -> Node | None:
        """What compares an online arm's responses; None for a checkpoint."""
        if cfg.online.reward == "annotator":
            return annotator
        if cfg.online.reward_model is not None:
            return None
        own = {
            "seed": cfg.seed + OTHER_PAIRS,
            "human_fraction": 0.9,
            "unlabeled_fraction": None,
            "holdout": 0.0,
        }
        pairs = add("prepare_reward", PREPARE, {}, **own)
        weak = pretrained("weak", cfg.pair.weak)
        parents = {"prepare": pairs, "weak_model": weak}
        return add("train_reward", train_annotator_stage("bt"), parents, seed=own["seed"])

    prepare = add("prepare", PREPARE, {})
    gold_model = None
    if cfg.gold.name == "trained":
        base = pretrained("gold", cfg.gold.path)
        gold_model = add("train_gold", TRAIN_GOLD, {"prepare": prepare, "gold_model": base})
    gold = None
    if cfg.gold.name != "openai":  # nobody pays for comparisons of the training pairs
        gold = add("score_gold", SCORE_GOLD, {"prepare": prepare, "train_gold": gold_model})
    annotator = annotate = mixed = None
    if cfg.method.labels in ("weak", "flips") or cfg.until in ("train_annotator", "annotate", "assess"):
        if cfg.labeled.other or cfg.labeled.poison_fraction:
            other = add("prepare_other", PREPARE, {}, data=other_data(cfg)) if cfg.labeled.other else None
            mixed = add("mix_labels", MIX_LABELS, {"prepare": prepare, "other": other, "score_gold": gold})
        annotator = add(
            "train_annotator",
            train_annotator_stage(cfg.annotator.name),
            {"prepare": prepare, "labels": mixed, "weak_model": pretrained("weak", cfg.pair.weak)},
        )
        annotate = add(
            "annotate",
            annotate_stage(cfg.annotator.name),
            {"prepare": prepare, "train_annotator": annotator},
        )
        add("assess", ASSESS, {"prepare": prepare, "labels": mixed, "annotate": annotate, "score_gold": gold})
    needed = {
        "annotate": annotate if cfg.method.labels in ("weak", "flips") else None,
        "score_gold": gold if cfg.method.labels in ("gold", "flips") else None,
    }
    select = add("select", SELECT, {"prepare": prepare, **needed})
    online = cfg.online.reward != "none"
    weight = None if online else add("weight", WEIGHT, {"select": select})
    shown = select
    if cfg.method.sft_labels == "human" and cfg.method.labels != "human":
        human = {"labels": "human", "pairs": "unlabeled", "selection": {"kind": "all", "value": None}}
        shown = add("select_sft", SELECT, {"prepare": prepare}, method=human)
    sft = add("sft", SFT, {"select": shown, "strong_model": pretrained("strong", cfg.pair.strong)})
    if online:
        align = add("online_align", ONLINE_ALIGN, {"select": select, "sft": sft, "reward": reward(annotator)})
        add("embed", EMBED, {"prepare": prepare, "labels": mixed, "sft": sft, "online_align": align})
    else:
        reference = add("reference", REFERENCE, {"select": select, "sft": sft})
        align = add("align", ALIGN, {"weight": weight, "sft": sft, "reference": reference})
    before = add("generate_sft", GENERATE, {"prepare": prepare, "model": sft}, model_tag="sft")
    after = add("generate", GENERATE, {"prepare": prepare, "model": align}, model_tag="aligned")
    trained_on = {"online_align": align} if online else {"weight": weight}
    measured = {"prepare": prepare, "score_gold": gold, "train_gold": gold_model, **trained_on}
    add("evaluate", EVALUATE, {**measured, "generate_sft": before, "generate": after})
    return nodes


def wanted(nodes: Mapping[str, Node], until: str | None) -> list[Node]:
    """The nodes to run: all, or what `until` needs; a stage this arm does not have ends at the one before it."""
    if until in (None, "evaluate"):  # the row of an arm also says how good its annotator is
        ends = [nodes[name] for name in ("assess", "evaluate") if name in nodes]
    else:
        names = [name for name in STAGES[: STAGES.index(until) + 1] if name in nodes]
        ends = [nodes[names[-1]]]
    seen = {node.key: node for end in ends for node in end.ancestors()}
    return list(seen.values())


def _slice(plain: Mapping[str, Any], reads: tuple[str, ...]) -> dict[str, Any]:
    """The part of the config under the dotted paths `reads`."""
    part: dict[str, Any] = {}
    for path in reads:
        source: Any = plain
        target = part
        *groups, leaf = path.split(".")
        for group in groups:
            source, target = source[group], target.setdefault(group, {})
        target[leaf] = source[leaf]
    return part


def hashed_config(config: Any, path: str = "") -> Any:
    """The slice, at the dotted `path`, as it enters the key: a local path is replaced by a digest of what lies there."""
    if isinstance(config, dict):
        parts = {name: (f"{path}.{name}" if path else name, value) for name, value in config.items()}
        hashed = {
            name: hashed_config(value, at)
            for name, (at, value) in parts.items()
            if at not in UNHASHED and (at not in LATER or value != LATER[at])
        }
        # a group that a stage reads only later settings of is no part of the key either
        return {name: value for name, value in hashed.items() if value != {} or config[name] == {}}
    if isinstance(config, list):
        return [hashed_config(value, path) for value in config]
    if path.rpartition(".")[2] in PATHS and isinstance(config, str) and Path(config).expanduser().exists():
        return f"{LOCAL}{fingerprint(config)}"
    return config
