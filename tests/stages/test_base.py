"""What re-runs a stage: the config keys it declares and its parents, and nothing else."""

import functools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from cwpo.pipeline.arms import CONF, Arm, configurations, expand, set_values

BASE = ["seed=0"]
SAMPLED = {"generate", "divergence", "evaluate"}
ALIGNMENT = {"align"} | SAMPLED
STRONG = {"sft", "reference", "generate_sft"} | ALIGNMENT
LABELS = {"select", "weight"} | STRONG
ANNOTATION = {"train_annotator", "annotate", "assess"} | LABELS
EVERYTHING = {"prepare", "score_gold"} | ANNOTATION

# A changed key -> the stages of a cw_po arm in the synthetic world that must run again: no more, no less.
RERUNS = {
    "seed=1": EVERYTHING,
    "human_fraction=0.2": EVERYTHING,
    "unlabeled_fraction=0.5": EVERYTHING,
    "data=helpful": EVERYTHING,
    "data.label_flip=0.3": EVERYTHING,
    "data.pairs=100": EVERYTHING,
    "data.max_tokens=99": EVERYTHING,
    "pair.weak=world/opt-48x1": {"pretrain_weak"} | ANNOTATION,
    "pair.strong=world/opt-80x2": {"pretrain_strong"} | STRONG,
    "annotator.training.epochs=2": ANNOTATION,
    "annotator.training.learning_rate=0.1": ANNOTATION,
    "annotator.head_std=0.5": ANNOTATION,
    "labeled.other=helpful labeled.own_share=0.5": ANNOTATION,
    "labeled.other=helpful labeled.own_share=0.5 labeled.poison_fraction=0.1": ANNOTATION,
    "labeled.other=helpful labeled.unlabeled=both": EVERYTHING - {"prepare"},
    "annotator.assessed_on=unlabeled": {"assess"},
    "annotator=pairrm": ANNOTATION,
    "annotator=dpo": ANNOTATION,
    "annotator.scoring=implicit": set(),
    "annotator.beta=0.1": set(),
    "annotator.sft_training.epochs=2": set(),
    "annotator.dpo_training.epochs=2": set(),
    "method.pairs=all": LABELS,
    "method.sft_labels=human": STRONG,
    "method.equal_steps=true method.selection.kind=top_fraction method.selection.value=0.5": LABELS,
    "method.selection.kind=top_fraction method.selection.value=0.5": LABELS,
    "method.selection.value=0.5": set(),
    "method.name=another": set(),
    "weighting=c2": {"weight"} | ALIGNMENT,
    "weighting.normalize=true": {"weight"} | ALIGNMENT,
    "weighting.permute=true": {"weight"} | ALIGNMENT,
    "weighting.scale=2": set(),
    "objective=ipo": ALIGNMENT,
    "objective.beta=0.1": ALIGNMENT,
    "sft.epochs=3": STRONG,
    "lora.enabled=true": STRONG,
    "lora.targets=peft": set(),
    "alignment.learning_rate=1": ALIGNMENT,
    "alignment.epochs=9": ALIGNMENT,
    "generation.temperature=0.5": {"generate_sft"} | SAMPLED,
    "generation.top_k=9": {"generate_sft"} | SAMPLED,
    "data.turns=first data.length_rule=characters": set(),  # of published data only
    "pair.batch_size=9": set(),  # the paper scale's training sections read it
    "embedding.path=a/b embedding.revision=c": set(),
    "evaluation.prompts=9": {"generate_sft"} | SAMPLED,
    "online.batches_per_round=9": set(),  # an offline arm reads nothing of it
    "online.batch_size=9": set(),
    "online.reward_model=a/b online.reward_revision=c": set(),
    "world.sequences=9": {"pretrain_weak", "pretrain_strong"} | (EVERYTHING - {"prepare", "score_gold"}),
    "world.seed=9": {"pretrain_weak", "pretrain_strong"} | (EVERYTHING - {"prepare", "score_gold"}),
    "gold=judge": {"score_gold", "assess", "evaluate"},
    "gold=judge gold.temperature=2": {"score_gold", "assess", "evaluate"},
    "store=elsewhere": set(),
    "results=elsewhere": set(),
    "jobs=7": set(),
    "threads=7": set(),
    "device=cpu": set(),
    "logger=wandb": set(),
    "until=weight": set(),
}


@functools.cache
def composition(*choices: str) -> DictConfig:
    ((cfg, values, _),) = configurations([*BASE, *choices])
    set_values(cfg, values)
    return cfg


def keys(*overrides: str) -> dict[str, str]:
    """The keys of an arm's stages. Values are set as in a sweep, which is faster than to compose each arm anew."""
    choices = [word for word in overrides if (CONF / word.split("=")[0]).is_dir()]
    cfg = composition(*choices).copy()
    set_values(cfg, OverridesParser.create().parse_overrides([word for word in overrides if word not in choices]))
    return {name: node.key for name, node in Arm.of(cfg).nodes.items()}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return keys()


@pytest.mark.parametrize("change", RERUNS)
def test_a_changed_key_reruns_exactly_these_stages(before, change):
    after = keys(*change.split())
    assert {name for name in before if before[name] != after[name]} == RERUNS[change]


def test_every_stage_is_covered(before):
    stages = set().union(*(s for s in RERUNS.values() if s))
    assert stages == set(before)


def test_version_change_reruns_a_stage_and_its_children(before, monkeypatch):
    import dataclasses

    from cwpo.pipeline import graph

    monkeypatch.setattr(graph, "SELECT", dataclasses.replace(graph.SELECT, version=99))
    after = keys()
    assert {name for name in before if before[name] != after[name]} == LABELS


ONLINE = {"online_align", "embed"} | SAMPLED
# What another choice reads, where the default one does not.
OTHER_RERUNS = {
    ("annotator=dpo", "annotator.scoring=implicit"): ANNOTATION - {"train_annotator"},
    ("annotator=dpo", "annotator.beta=0.1"): ANNOTATION,
    ("annotator=dpo", "annotator.dpo_training.epochs=2"): ANNOTATION,
    ("annotator=dpo", "annotator.sft_training.epochs=2"): set(),
    ("annotator=dpo", "annotator.training.epochs=2"): set(),
    ("annotator=dpo", "annotator.head_std=0.5"): set(),
    ("annotator=sft_dpo", "annotator.scoring=implicit"): ANNOTATION - {"train_annotator"},
    ("annotator=sft_dpo", "annotator.sft_training.epochs=2"): ANNOTATION,
    ("annotator=sft_dpo", "annotator.training.epochs=2"): set(),
    ("annotator=pairrm", "annotator.training.epochs=2"): ANNOTATION,
    ("annotator=pairrm", "annotator.head_std=0.5"): ANNOTATION,
    ("annotator=pairrm", "annotator.scoring=implicit"): set(),
    ("annotator=pairrm", "annotator.dpo_training.epochs=2"): set(),
    ("method=online_cw_po", "online.batches_per_round=9"): ONLINE,
    ("method=online_cw_po", "alignment.epochs=9"): ONLINE,
    ("method=online_cw_po", "objective=ipo"): ONLINE,
    ("method=online_cw_po", "weighting=c2"): ONLINE,
    ("method=online_cw_po", "online.reward_model=a/b"): set(),  # its reward is the annotator
    ("method=online_cw_po", "generation.temperature=0.5"): {"generate_sft"} | ONLINE,
    ("method=online_rm", "annotator.training.epochs=2"): {
        *("train_annotator", "annotate", "assess", "select", "sft", "train_reward", "generate_sft"),
        *ONLINE,
    },
    # what is measured, never what an arm trains on
    ("gold=trained", "gold.training.epochs=9"): {"train_gold", "score_gold", "assess", "evaluate"},
}


@pytest.mark.parametrize(("choice", "change"), OTHER_RERUNS)
def test_a_choice_reads_only_its_own_keys(choice, change):
    before, after = keys(choice), keys(choice, change)
    assert {name for name in before if before[name] != after[name]} == OTHER_RERUNS[choice, change]


def test_online_arms_share_the_sft_model_of_the_weak_labels():
    offline, weak, reward = (keys(f"method={m}") for m in ("ws_bt", "online_ws_po", "online_rm"))
    for name in ("prepare", "annotate", "select", "sft", "generate_sft"):
        assert offline[name] == weak[name] == reward[name]
    assert weak["online_align"] != reward["online_align"]
    assert {"weight", "reference", "align"}.isdisjoint(weak)
    # what the reward model learns from are pairs that no arm sees
    assert reward["prepare_reward"] == keys("seed=500", "human_fraction=0.9")["prepare"]


def test_a_stage_sees_only_what_it_declares():
    (made,) = expand(BASE)
    for node in made.nodes.values():
        assert {path.split(".")[0] for path in node.stage.reads} == set(node.config)


def test_arms_share_what_they_have_in_common():
    human, ws, cw = (keys(f"method={m}") for m in ("human", "ws_bt", "cw_po"))
    assert ws["sft"] == cw["sft"] and ws["reference"] == cw["reference"] and ws["generate_sft"] == cw["generate_sft"]
    assert ws["align"] != cw["align"]
    assert human["prepare"] == ws["prepare"] and human["sft"] != ws["sft"]
    assert "train_annotator" not in human
    common = keys("method=ws_bt", "method.sft_labels=human")
    assert common["sft"] == human["sft"] and common["select"] == ws["select"]
    assert keys("method=human", "method.sft_labels=human") == human


def test_equal_steps_stretch_the_epochs_only():
    (few,) = expand([*BASE, "method=filter_steps", "method.selection.value=0.25"])
    (plain,) = expand([*BASE, "method=filter", "method.selection.value=0.25"])
    assert few.nodes["select"].key == plain.nodes["select"].key
    for stage, part in (("sft", "sft"), ("align", "alignment")):
        epochs = [made.nodes[stage].config[part]["epochs"] for made in (few, plain)]
        assert epochs[0] == 4 * epochs[1]


def test_a_moved_data_file_is_the_same_data(tmp_path):
    from cwpo.pipeline.graph import hashed_config

    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "b.jsonl").write_text("{}")
    assert hashed_config({"data": {"path": str(tmp_path / "a.jsonl")}}) == hashed_config(
        {"data": {"path": str(tmp_path / "b.jsonl")}}
    )
