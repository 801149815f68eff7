"""The stages of one arm and how they depend on each other."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cwpo.checks.reading import items
from cwpo.config.assets import settled
from cwpo.config.schema import JUDGE_SETTINGS, STAGES, Config, trainings
from cwpo.errors import InputError
from cwpo.pipeline.derived import PUBLISHED, WORLD, derived_config, other_data
from cwpo.runtime import NATIVE
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
from cwpo.store.store import Store, fingerprint, stage_key, stamps

# Names of settings whose values may be local files or folders. Then their content enters a stage's key, not the path.
PATHS = ("path", "weak", "strong", "tokenizers", "reward_model", "prompt_file")
LOCAL = "content:"  # prefix of the digest that replaces a local path
# Settings added after some stores were filled -> the value that changes nothing. At that value they do not enter a key.
LATER: dict[str, Any] = {
    **{f"data.{key}": value for key, value in PUBLISHED.items()},
    **{f"{training}.precision": "float32" for training in trainings(Config())},
    "alignment.precision": NATIVE,  # the processor decides; all numbers depend on it a little anyway
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
        *(ALIGN, ASSESS, DIVERGENCE, EMBED, EVALUATE, GENERATE, MIX_LABELS, MIX_UNLABELED),
        *(ONLINE_ALIGN, PREPARE, PRETRAIN, REFERENCE, SCORE_GOLD, SELECT, SFT, TRAIN_GOLD, WEIGHT),
        *(annotate_stage("bt"), train_annotator_stage("bt")),
    )
}
# method.labels -> the stages whose labels or scores `select` reads, in addition to the pairs.
LABELS: dict[str, list[str]] = {"human": [], "weak": ["annotate"], "gold": ["score_gold"]}
LABELS["flips"] = ["annotate", "score_gold"]
OTHER_PAIRS = 500  # added to the seed that draws the pairs from which an online arm's reward model learns


@dataclass(frozen=True)
class Node:
    """One stage of one arm. Nodes with equal `key` do the same computation.

    `config`: the settings that the stage reads; `hashed`: those that enter the key; `parents`: {role: node}.
    """

    name: str
    stage: Stage
    config: dict[str, Any]
    hashed: dict[str, Any]
    parents: "dict[str, Node]" = field(repr=False)
    stamps: dict[str, Any] = field(default_factory=dict, repr=False)  # of the local files whose content is in `hashed`

    @functools.cached_property
    def key(self) -> str:
        parents = {role: node.key for role, node in self.parents.items()}
        return stage_key(self.stage.name, self.stage.version, self.hashed, parents)

    def folder(self, store: Store) -> Path:
        return store.folder(self.stage.name, self.key)

    def file(self, store: Store, name: str) -> Path:
        """Returns the path of a file of the finished stage. Raises StoreError if the stage is damaged."""
        store.manifest(self.stage.name, self.key)
        return self.folder(store) / name

    def summary(self, store: Store) -> dict[str, Any]:
        """Returns the summary in the manifest of the finished stage. Raises StoreError if the stage is damaged."""
        return store.manifest(self.stage.name, self.key)["summary"]

    def done(self, store: Store) -> bool:
        return store.has(self.stage.name, self.key)

    def check_files(self) -> None:
        """Raises InputError if local files that the stage reads no longer have the content that entered its key."""
        changed = [path for path, known in self.stamps.items() if stamps(path) != known]
        if changed and hashed_config(self.config) != self.hashed:
            raise InputError(
                f"{' and '.join(changed)} changed while this command ran, or cannot be read now, so the result of stage {self.name} is not kept; "
                "give the command again: it reads what is there now"
            )

    def ancestors(self) -> "Iterator[Node]":
        """Yields every node that this one needs, each once, parents before children, and this node last."""
        seen: dict[str, Node] = {}

        def visit(node: "Node") -> None:
            if node.key not in seen:
                for parent in node.parents.values():
                    visit(parent)
                seen[node.key] = node

        visit(self)
        yield from seen.values()


class _Graph:
    """Collects the nodes of an arm by name; `plain` is its configuration. Parents that the arm lacks are left out."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self.plain, self.nodes = plain, dict[str, Node]()

    def add(self, name: str, stage: Stage, changes: Mapping[str, Any] | None = None, /, **parents: str) -> None:
        """Adds a stage. `changes` replace top-level keys of the configuration for it. `parents`: {role: node name}."""
        config = _slice(self.plain | dict(changes or {}), stage.reads)
        needs = {role: self.nodes[parent] for role, parent in parents.items() if parent in self.nodes}
        known = {path: stamps(path) for path in _local_paths(config)}  # before hashed_config reads the files
        self.nodes[name] = Node(name, stage, config, hashed_config(config), needs, known)

    def pretrain(self, who: str, model: str | None) -> None:
        """Adds the node pretrain_<who>, which pretrains `model`, if `model` belongs to the synthetic world."""
        if model and model.startswith(WORLD):
            self.add(f"pretrain_{who}", PRETRAIN, {"model": model})


def nodes_of(cfg: Config, look: bool = True) -> dict[str, Node]:
    """Returns {name: node} of one arm, parents first. Has no annotator if neither method.labels nor `until` needs one.

    With look=False no checkpoint is read: the nodes can be counted, but their store keys may differ from a run's.
    """
    cfg = settled(cfg)
    graph = _Graph(derived_config(cfg, look))
    add, method = graph.add, cfg.method
    prepare = _add_pairs(graph, cfg)
    if method.labels in ("weak", "flips") or cfg.until in ("train_annotator", "annotate", "assess"):
        _add_annotator(graph, cfg, prepare)
    add("select", SELECT, prepare=prepare, **{parent: parent for parent in LABELS[method.labels]})
    shown = "select"  # the pairs whose chosen responses the SFT model learns
    if method.sft_labels == "human" != method.labels:
        shown = "select_sft"
        human = {"labels": "human", "pairs": "unlabeled", "selection": {"kind": "all", "value": None}}
        add(shown, SELECT, {"method": human}, prepare=prepare)
    graph.pretrain("strong", cfg.pair.strong)
    add("sft", SFT, select=shown, strong_model="pretrain_strong")
    if cfg.online.reward == "none":
        aligned = "align"
        add("weight", WEIGHT, select="select")
        add("reference", REFERENCE, select="select", sft="sft")
        add("align", ALIGN, weight="weight", sft="sft", reference="reference")
    else:
        aligned = "online_align"
        add("online_align", ONLINE_ALIGN, select="select", sft="sft", reward=_add_reward(graph, cfg))
        add("embed", EMBED, prepare=prepare, labels="mix_labels", sft="sft", online_align="online_align")
    add("generate_sft", GENERATE, {"model_tag": "sft"}, prepare=prepare, model="sft")
    add("generate", GENERATE, {"model_tag": "aligned"}, prepare=prepare, model=aligned)
    trained_on = {"weight": "weight", "online_align": "online_align"}
    moved = {"reference": "reference", "sft": "sft", "model": aligned, "generate": "generate"}
    add("divergence", DIVERGENCE, **trained_on, **moved)
    measured = {"score_gold": "score_gold", "train_gold": "train_gold", **trained_on}
    add("evaluate", EVALUATE, prepare=prepare, **measured, generate_sft="generate_sft", generate="generate")
    return graph.nodes


def _add_pairs(graph: _Graph, cfg: Config) -> str:
    """Adds nodes for pairs, those of labeled.other, gold scores and, with gold=trained, the gold model.

    Returns the name of the pairs' node.
    """
    graph.add("prepare", PREPARE)
    prepare = "prepare"
    if cfg.labeled.other:
        graph.add("prepare_other", PREPARE, {"data": other_data(cfg)})
    if cfg.labeled.unlabeled != "own":  # unlabeled pairs of another data set are added
        prepare = "mix_unlabeled"
        graph.add(prepare, MIX_UNLABELED, prepare="prepare", other="prepare_other")
    if cfg.gold.name == "trained":
        graph.pretrain("gold", cfg.gold.path)
        graph.add("train_gold", TRAIN_GOLD, prepare=prepare, gold_model="pretrain_gold")
    if cfg.gold.name != "openai":  # a judge that costs money does not compare the training pairs
        graph.add("score_gold", SCORE_GOLD, prepare=prepare, train_gold="train_gold")
    return prepare


def _add_annotator(graph: _Graph, cfg: Config, prepare: str) -> None:
    """Adds nodes that train the annotator (on mixed or poisoned pairs, if set), label pairs and assess the labels."""
    if cfg.labeled.other or cfg.labeled.poison_fraction:
        graph.add("mix_labels", MIX_LABELS, prepare=prepare, other="prepare_other", score_gold="score_gold")
    graph.pretrain("weak", cfg.pair.weak)
    kind = train_annotator_stage(cfg.annotator.name)
    graph.add("train_annotator", kind, prepare=prepare, labels="mix_labels", weak_model="pretrain_weak")
    kind = annotate_stage(cfg.annotator.name)
    graph.add("annotate", kind, prepare=prepare, train_annotator="train_annotator")
    held_against = {"labels": "mix_labels", "annotate": "annotate", "score_gold": "score_gold"}
    graph.add("assess", ASSESS, prepare=prepare, **held_against)


def _add_reward(graph: _Graph, cfg: Config) -> str:
    """Returns the name of the node whose model rewards an online arm: "train_annotator" or "train_reward".

    Adds the node train_reward, unless online.reward_model names a checkpoint: then no reward model is trained.
    """
    if cfg.online.reward == "annotator":
        return "train_annotator"
    if cfg.online.reward_model is None:
        seed = cfg.seed + OTHER_PAIRS
        own = {"seed": seed, "human_fraction": 0.9, "unlabeled_fraction": None, "holdout": 0.0}
        graph.add("prepare_reward", PREPARE, own)
        graph.pretrain("weak", cfg.pair.weak)
        kind, weak = train_annotator_stage("bt"), {"weak_model": "pretrain_weak"}
        graph.add("train_reward", kind, {"seed": seed}, prepare="prepare_reward", **weak)
    return "train_reward"


def wanted(nodes: Mapping[str, Node], until: str | None) -> list[Node]:
    """Returns the stage `until` and its ancestors, parents first; for None, all nodes that the arm's row needs."""
    if until in (None, "evaluate"):  # an arm's row holds its annotator's accuracy and its divergence too
        ends = [nodes[name] for name in ("assess", "divergence", "evaluate") if name in nodes]
    else:
        names = [name for name in STAGES[: STAGES.index(until) + 1] if name in nodes]
        ends = [nodes[names[-1]]]  # the last stage before `until` if the arm lacks `until`
    return list({node.key: node for end in ends for node in end.ancestors()}.values())


def _slice(plain: Mapping[str, Any], reads: tuple[str, ...]) -> dict[str, Any]:
    """Returns the part of the configuration `plain` under the dotted paths `reads`, as nested dictionaries."""
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
    """Returns the part of a stage's settings that enters its key. `config`: the settings below the dotted key `path`.

    Leaves out each setting in UNHASHED, and each setting in LATER that has the value listed there. Replaces a local
    path by a digest of its content.
    """
    if isinstance(config, dict):
        parts = {name: (f"{path}.{name}" if path else name, value) for name, value in config.items()}
        hashed = {
            name: hashed_config(value, at)
            for name, (at, value) in parts.items()
            if at not in UNHASHED and (at not in LATER or value != LATER[at])
        }
        # a group that has only settings of LATER or UNHASHED does not enter the key either
        return {name: value for name, value in hashed.items() if value != {} or config[name] == {}}
    if isinstance(config, list):
        return [hashed_config(value, path) for value in config]
    return f"{LOCAL}{fingerprint(config)}" if _is_local(config, path) else config


def _is_local(value: Any, path: str) -> bool:
    return path.rpartition(".")[2] in PATHS and isinstance(value, str) and Path(value).expanduser().exists()


def _local_paths(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the values in a stage's settings that hashed_config replaces by digests."""
    for path, value in items(config):
        if _is_local(value, re.sub(r"(\.\d+)+$", "", path)):
            yield value
