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
from cwpo.stages.divergence import DIVERGENCE
from cwpo.stages.embed import EMBED
from cwpo.stages.evaluate import EVALUATE
from cwpo.stages.generate import GENERATE
from cwpo.stages.mix_labels import MIX_LABELS
from cwpo.stages.mix_unlabeled import MIX_UNLABELED
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

# Settings whose values may be local files or folders. Their content enters a stage's key, not their place.
PATHS = ("path", "weak", "strong", "tokenizers", "reward_model", "prompt_file")
LOCAL = "content:"  # begins the digest that replaces a local path
# Settings that are younger than some stores -> the value that changes nothing. At that value they do not enter a key.
LATER: dict[str, Any] = {
    **{f"data.{key}": value for key, value in PUBLISHED.items()},
    **{f"{training}.precision": "float32" for training in trainings(Config())},
    "generation.engine": "transformers",
    "generation.precision": "float32",
    "generation.top_k": 0,
    "lora.targets": "all-linear",
    "lora.base_dtype": "float32",
    "lora.save": "merged",
    "annotator.assessed_on": "test",
    "labeled.unlabeled": "own",
    "embedding.path": None,
    "embedding.revision": None,
    "context": None,
    "text_version": None,
    "strong_chat": False,
    "online.reward_chat": False,
    "gold.model": None,
    "gold.asks": "both",
    "gold.prompt_file": None,
}
# Settings on which no result depends. They never enter a key.
UNHASHED = (*(f"gold.{key}" for key in JUDGE_SETTINGS), "generation.python")
# Every kind of stage by name; stages of one kind may differ in the keys that they read.
KINDS = {
    stage.name: stage
    for stage in (
        *(
            ALIGN,
            ASSESS,
            DIVERGENCE,
            EMBED,
            EVALUATE,
            GENERATE,
            MIX_LABELS,
            MIX_UNLABELED,
            ONLINE_ALIGN,
            PREPARE,
        ),
        *(PRETRAIN, REFERENCE, SCORE_GOLD, SELECT, SFT, TRAIN_GOLD, WEIGHT),
        *(annotate_stage("bt"), train_annotator_stage("bt")),
    )
}
OTHER_PAIRS = 500  # the reward model of an online arm learns from pairs drawn with the seed plus this


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

    def file(self, store: Store, name: str) -> Path:
        """A file of the finished stage. Raises StoreError where the stage is damaged."""
        store.manifest(self.stage.name, self.key)
        return self.folder(store) / name

    def summary(self, store: Store) -> dict[str, Any]:
        """The summary in the manifest of the finished stage. Raises StoreError where the stage is damaged."""
        return store.manifest(self.stage.name, self.key)["summary"]

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
    graph = _Graph(cfg, derived_config(cfg, look))
    prepare = graph.pairs()
    gold_model, gold = graph.gold(prepare)
    mixed = annotator = annotate = None
    if cfg.method.labels in ("weak", "flips") or cfg.until in ("train_annotator", "annotate", "assess"):
        mixed = graph.labels(prepare, gold)
        annotator = graph.annotator(prepare, mixed)
        kind = annotate_stage(cfg.annotator.name)
        annotate = graph.add("annotate", kind, prepare=prepare, train_annotator=annotator)
        graph.add("assess", ASSESS, prepare=prepare, labels=mixed, annotate=annotate, score_gold=gold)
    labels = {
        "annotate": annotate if cfg.method.labels in ("weak", "flips") else None,
        "score_gold": gold if cfg.method.labels in ("gold", "flips") else None,
    }
    select = graph.add("select", SELECT, prepare=prepare, **labels)
    if cfg.online.reward == "none":
        sft, align, trained_on = graph.offline(prepare, select)
    else:
        sft, align, trained_on = graph.online(prepare, select, mixed, annotator)
    before = graph.add("generate_sft", GENERATE, {"model_tag": "sft"}, prepare=prepare, model=sft)
    after = graph.add("generate", GENERATE, {"model_tag": "aligned"}, prepare=prepare, model=align)
    parents = {**trained_on, "reference": graph.nodes.get("reference")}
    graph.add("divergence", DIVERGENCE, **parents, sft=sft, model=align, generate=after)
    measured = {"prepare": prepare, "score_gold": gold, "train_gold": gold_model, **trained_on}
    graph.add("evaluate", EVALUATE, **measured, generate_sft=before, generate=after)
    return graph.nodes


@dataclass
class _Graph:
    """The nodes of an arm so far, and the ways to add more."""

    cfg: Config
    plain: dict[str, Any]
    nodes: dict[str, Node] = field(default_factory=dict)

    def add(
        self, name: str, stage: Stage, changes: Mapping[str, Any] | None = None, /, **parents: Node | None
    ) -> Node:
        """Add a stage that reads the configuration with these changes, and return its node."""
        config = _slice(self.plain | dict(changes or {}), stage.reads)
        needs = {role: parent for role, parent in parents.items() if parent is not None}
        self.nodes[name] = Node(name, stage, config, hashed_config(config), needs)
        return self.nodes[name]

    def pairs(self) -> Node:
        """The arm's pairs, with another set's unlabeled pairs among them where it aligns on a mixture."""
        prepare = self.add("prepare", PREPARE)
        if self.cfg.labeled.unlabeled == "own":
            return prepare
        return self.add("mix_unlabeled", MIX_UNLABELED, prepare=prepare, other=self.other())

    def other(self) -> Node:
        """The pairs of labeled.other."""
        if "prepare_other" not in self.nodes:
            self.add("prepare_other", PREPARE, {"data": other_data(self.cfg)})
        return self.nodes["prepare_other"]

    def pretrained(self, who: str, model: str | None) -> Node | None:
        """The node of a model of the synthetic world; None for a checkpoint."""
        if not model or not model.startswith(WORLD):
            return None
        return self.add(f"pretrain_{who}", PRETRAIN, {"model": model})

    def gold(self, prepare: Node) -> tuple[Node | None, Node | None]:
        """The gold model, where one is trained, and its scores. Nobody pays for a judge to compare the training pairs."""
        model = None
        if self.cfg.gold.name == "trained":
            base = self.pretrained("gold", self.cfg.gold.path)
            model = self.add("train_gold", TRAIN_GOLD, prepare=prepare, gold_model=base)
        if self.cfg.gold.name == "openai":
            return model, None
        return model, self.add("score_gold", SCORE_GOLD, prepare=prepare, train_gold=model)

    def labels(self, prepare: Node, gold: Node | None) -> Node | None:
        """Labeled pairs that are mixed or poisoned; None for the arm's own, as they are."""
        labeled = self.cfg.labeled
        if not (labeled.other or labeled.poison_fraction):
            return None
        other = self.other() if labeled.other else None
        return self.add("mix_labels", MIX_LABELS, prepare=prepare, other=other, score_gold=gold)

    def annotator(self, prepare: Node, mixed: Node | None) -> Node:
        weak = self.pretrained("weak", self.cfg.pair.weak)
        kind = train_annotator_stage(self.cfg.annotator.name)
        return self.add("train_annotator", kind, prepare=prepare, labels=mixed, weak_model=weak)

    def sft(self, select: Node) -> Node:
        strong = self.pretrained("strong", self.cfg.pair.strong)
        return self.add("sft", SFT, select=select, strong_model=strong)

    def offline(self, prepare: Node, select: Node) -> tuple[Node, Node, dict[str, Node | None]]:
        """The SFT and the aligned model, and the pairs that the latter learned from."""
        weight = self.add("weight", WEIGHT, select=select)
        sft = self.sft(self.shown(prepare, select))
        reference = self.add("reference", REFERENCE, select=select, sft=sft)
        align = self.add("align", ALIGN, weight=weight, sft=sft, reference=reference)
        return sft, align, {"weight": weight}

    def online(
        self, prepare: Node, select: Node, mixed: Node | None, annotator: Node | None
    ) -> tuple[Node, Node, dict[str, Node | None]]:
        """The same where the policy's own responses, compared while it learns, are the pairs."""
        sft = self.sft(self.shown(prepare, select))
        align = self.add("online_align", ONLINE_ALIGN, select=select, sft=sft, reward=self.reward(annotator))
        self.add("embed", EMBED, prepare=prepare, labels=mixed, sft=sft, online_align=align)
        return sft, align, {"online_align": align}

    def shown(self, prepare: Node, select: Node) -> Node:
        """The pairs whose chosen responses the SFT model learns."""
        method = self.cfg.method
        if method.sft_labels != "human" or method.labels == "human":
            return select
        human = {"labels": "human", "pairs": "unlabeled", "selection": {"kind": "all", "value": None}}
        return self.add("select_sft", SELECT, {"method": human}, prepare=prepare)

    def reward(self, annotator: Node | None) -> Node | None:
        """The model that compares an online arm's responses; None for a checkpoint."""
        if self.cfg.online.reward == "annotator":
            return annotator
        if self.cfg.online.reward_model is not None:
            return None
        seed = self.cfg.seed + OTHER_PAIRS
        own = {"seed": seed, "human_fraction": 0.9, "unlabeled_fraction": None, "holdout": 0.0}
        pairs = self.add("prepare_reward", PREPARE, own)
        weak = self.pretrained("weak", self.cfg.pair.weak)
        kind = train_annotator_stage("bt")
        return self.add("train_reward", kind, {"seed": seed}, prepare=pairs, weak_model=weak)


def wanted(nodes: Mapping[str, Node], until: str | None) -> list[Node]:
    """The nodes to run: all, or those that `until` needs. A stage that the arm lacks stands for the one before it."""
    if until in (None, "evaluate"):  # an arm's row holds its annotator's accuracy and its divergence too
        ends = [nodes[name] for name in ("assess", "divergence", "evaluate") if name in nodes]
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
    """The slice at the dotted `path` as it enters the key: a digest of the content replaces a local path."""
    if isinstance(config, dict):
        parts = {name: (f"{path}.{name}" if path else name, value) for name, value in config.items()}
        hashed = {
            name: hashed_config(value, at)
            for name, (at, value) in parts.items()
            if at not in UNHASHED and (at not in LATER or value != LATER[at])
        }
        # a group of which a stage reads only later settings does not enter the key either
        return {name: value for name, value in hashed.items() if value != {} or config[name] == {}}
    if isinstance(config, list):
        return [hashed_config(value, path) for value in config]
    if path.rpartition(".")[2] in PATHS and isinstance(config, str) and Path(config).expanduser().exists():
        return f"{LOCAL}{fingerprint(config)}"
    return config
