"""Every file of conf/ composes and is known to the schema; sweeps expand to the arms of the paper's tables."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks import settings
from cwpo.checks.reading import keys_of
from cwpo.checks.settings import check_config as check
from cwpo.commands.hydra_errors import explain, groups, leaf_keys
from cwpo.config import commands, schema
from cwpo.config.assets import LOCK, settled
from cwpo.config.commands import register
from cwpo.config.schema import CONF, STAGES
from cwpo.config.update_sizes import at_operating_point
from cwpo.errors import InputError
from cwpo.pipeline.arms import expand

ALL_FILES = sorted(set(CONF.rglob("*.yaml")) - {LOCK})  # the lock is data, not configuration
COMMANDS = [f.stem for f in ALL_FILES if f.parent == CONF / "command"]
# read by cwpo.execution.cluster and accelerate
OF_OTHERS = [f for f in ALL_FILES if f.relative_to(CONF).parts[0] in ("hydra", "accelerate")]
CHOSEN = [f for f in ALL_FILES if f.parent not in (CONF, CONF / "command") and f not in OF_OTHERS]
CHOICES = [(f.parent.name, f.stem) for f in CHOSEN]
EXPERIMENTS = [name for group, name in CHOICES if group == "experiment"]
SCALES = [name for group, name in CHOICES if group == "scale"]
# What a choice needs besides itself to make a runnable arm.
NEEDS = {
    ("data", "jsonl"): ["data.path=pairs.jsonl", "gold=trained", "pair.weak=a/b", "pair.strong=a/c"],
    ("gold", "huggingface"): ["gold.path=a/reward"],
    ("gold", "openai"): ["gold.model=some-judge"],
    ("gold", "paper"): ["scale=paper"],
}


def composed(*overrides: str) -> DictConfig:
    """What scripts/run.py is given for these words on its command line."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.fixture
def hub_knows_all(monkeypatch, tmp_path):
    """Let every checkpoint name pass, and `pairs.jsonl` exist here; these tests are about configuration only."""
    monkeypatch.setattr(settings, "checkpoint_problems", lambda cfg, ask_hub: [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("{}\n")


# --- every file composes ------------------------------------------------------------------------------------------


def test_every_file_of_conf_is_covered_below():
    assert len(ALL_FILES) == 1 + len(CHOICES) + len(COMMANDS) + len(OF_OTHERS) > 30
    assert CONF / "config.yaml" in ALL_FILES
    assert set(COMMANDS) == set(commands.COMMANDS)
    assert {group for group, _ in CHOICES} == set(groups())


# Method files whose rows belong to another method; the weighting or the equal steps tell them apart.
VARIANTS = {"cw_normalized": "cw_po", "cw_permuted": "cw_po", "cw_pairrm": "cw_po", "filter_steps": "filter"}
# Stages that an ordinary arm does not have.
REACHED_WITH = {
    "train_gold": ["gold=trained", "gold.holdout=0.2"],
    "mix_labels": ["labeled.other=helpful"],
    "mix_unlabeled": ["labeled.other=helpful", "labeled.unlabeled=both"],
    "online_align": ["method=online_cw_po"],
    "embed": ["method=online_cw_po"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_makes_a_valid_arm(hub_knows_all, group, choice):
    needs = NEEDS.get((group, choice), [])
    cfg = composed(f"{group}={choice}", *needs)
    check(cfg)
    if group not in ("scale", "experiment"):
        assert cfg[group].name == VARIANTS.get(choice, choice)


@pytest.mark.parametrize(("group", "choice"), [c for c in CHOICES if c[0] in ("data", "pair")])
def test_data_and_pairs_of_models_resolve_at_the_papers_scale(hub_knows_all, group, choice):
    cfg = composed(f"{group}={choice}", "scale=paper", *NEEDS.get((group, choice), []))
    gold = settled(check(cfg)).gold
    assert not any(str(name).startswith("world/") for name in (cfg.pair.weak, cfg.pair.strong, gold.path))
    assert gold.name in ("trained", *schema.MODEL_GOLDS)
    assert cfg.data.source == ("jsonl" if choice == "jsonl" else "hub")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "toy"])  # toy: a choice as above
def test_every_experiment_makes_a_valid_arm_at_every_scale(hub_knows_all, experiment, scale):
    cfg = composed(f"experiment={experiment}", f"scale={scale}")
    check(cfg)
    assert (cfg.gold.name == "paper") == (scale != "toy")
    assert (cfg.name, cfg.scale_name) == (experiment, scale)


def test_a_judge_must_be_named(hub_knows_all):
    with pytest.raises(InputError, match="gold=openai needs gold.model=<name of the model at the endpoint>"):
        check(composed("gold=openai", "scale=paper"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_other_commands_compose(command):
    register()
    key = list(leaf_keys(commands.COMMANDS[command]))[-1]
    with initialize_config_dir(str(CONF / "command"), version_base="1.3"):
        assert set(compose(command)) == {key.split(".")[0] for key in leaf_keys(commands.COMMANDS[command])}
        with pytest.raises(HydraException) as refused:
            compose(command, overrides=[f"{key}x=paper"])
    assert f"unknown key {key}x; did you mean {key}? valid: " in explain(refused.value)
    assert "method" not in explain(refused.value)


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda f: str(f.relative_to(CONF)))
def test_every_file_starts_by_saying_what_it_is(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if "@package" not in line)
    assert re.match(r"# \S", first)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_small_diffs(experiment):
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    assert OmegaConf.create(text).name == experiment
    assert len(text.splitlines()) <= 40


# What the paper ran -> the words that lead to it, and the same key in the synthetic world.
AS_PRINTED = [
    ("experiment=table1 pair=opt_small", "sft.batch_size", 64, 64),
    ("experiment=table1 pair=opt_large", "alignment.batch_size", 16, 64),
    ("experiment=table16 pair=qwen_to_llama", "sft.micro_batch_size", 4, None),
    ("experiment=figure5", "evaluation.prompts", 750, 1000),
    ("experiment=table1", "evaluation.prompts", None, 1000),
    ("experiment=table6", "annotator.assessed_on", "unlabeled", "test"),
    ("experiment=table12", "annotator.assessed_on", "test", "test"),
    ("experiment=table24", "labeled.unlabeled", "both", "own"),
    ("experiment=table25", "labeled.unlabeled", "eq19", "own"),
    ("experiment=figure6", "embedding.path", "google-bert/bert-base-uncased", None),
    ("experiment=table1", "lora.targets", "peft", "all-linear"),
    ("experiment=table1", "generation.top_k", 50, 0),
    ("experiment=table1", "data.source", "hub", "world"),
    ("experiment=table1", "pair.weak", "facebook/opt-125m", "world/opt-32x1"),
]


@pytest.mark.parametrize(("words", "key", "paper", "toy"), AS_PRINTED)
def test_the_papers_choices_hold_at_its_scale_alone(words, key, paper, toy):
    values = [OmegaConf.select(composed(*words.split(), f"scale={scale}"), key) for scale in ("paper", "toy")]
    assert values == [paper, toy]


@pytest.mark.parametrize("pair", [choice for group, choice in CHOICES if group == "pair"])
def test_steps_are_smaller_exactly_above_seven_billion(pair):
    cfg = composed(f"pair={pair}", "scale=paper")
    large = cfg.plan.parameters[cfg.pair.strong] > 7.9  # Qwen2.5-7B has 7.6
    assert (cfg.alignment.batch_size, cfg.alignment.micro_batch_size) == ((16, 4) if large else (64, 16))


# --- misspelt keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [g for g in groups() if g not in ("experiment", "scale", "method")])
def test_a_misspelt_key_in_a_file_of_a_group_is_refused(tmp_path, group):
    message = refusal_of_own_file(tmp_path, group, "name: own\nmisspelt: 1\n")
    assert "misspelt" in message


def test_a_misspelt_key_in_an_experiment_file_is_refused(tmp_path):
    message = refusal_of_own_file(tmp_path, "experiment", "# @package _global_\nname: own\nobjective:\n  betta: 1\n")
    assert "unknown key objective.betta; did you mean objective.beta?" in message


def refusal_of_own_file(folder: Path, group: str, text: str) -> str:
    (folder / group).mkdir()
    (folder / group / "own.yaml").write_text(text)
    with pytest.raises((HydraException, OmegaConfBaseException)) as refused:
        composed(f"hydra.searchpath=[file://{folder}]", f"{group}=own")
    return explain(refused.value)


def test_leaf_keys_are_those_of_a_composed_configuration():
    cfg = composed()
    keys = set(leaf_keys())
    assert {"seed", "objective.beta", "annotator.training.epochs", "method.selection.value"} <= keys
    OmegaConf.set_struct(cfg, True)
    for key in keys:
        OmegaConf.select(cfg, key, throw_on_missing=False)  # raises for a key the configuration lacks


# --- what overrides what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "weighting"), [("cw_po", "c1"), ("ws_bt", "uniform"), ("human", "uniform"), ("filter", "uniform")]
)
def test_a_method_brings_its_weighting(method, weighting):
    assert composed(f"method={method}").weighting.name == weighting


@pytest.mark.parametrize("words", [["method=cw_po", "weighting=c4"], ["weighting=c4", "method=cw_po"]])
def test_a_weighting_named_on_the_command_line_wins_in_any_order(words):
    cfg = composed(*words)
    assert (cfg.weighting.name, cfg.weighting.scale, cfg.method.name) == ("c4", 0.2, "cw_po")


def test_command_line_beats_scale():
    assert composed("scale=paper", "alignment.epochs=2").alignment.epochs == 2


# --- sweeps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "arms"),
    [
        ("table1", 2 * 3 * 3 * 5 * 3 * 2),
        ("figure2", 2 * 3 * (4 + 3) * 10 * 2),  # only filter reads the share
        ("table6", 2 * 3 * (1 + 2 + 2) * 3),  # bt does not read the rule of scoring
        ("table13", 3 * 5 * 3),
        ("table21", 2 * 3 * 2 * 3),
        ("table22", 2 * 2 * 2 * 3),
        ("table24", 2 * 3 * 4 * 3 * 2),
        ("figure6", 2),
        ("controls", 2 * 2 * (11 + 10) * 3),  # human's own SFT model is the common one
    ],
)
def test_number_of_distinct_arms(experiment, arms):
    axes = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").hydra.sweeper.params
    # composing all takes long: one value stands for each
    fixed = [axis for axis in ("pair", "data", "operating_point") if axis in axes]
    made = expand([f"experiment={experiment}", *(f"{axis}={axes[axis].split(',')[0]}" for axis in fixed)])
    assert len({arm.key for arm in made}) == len(made)
    assert {arm.cfg.name for arm in made} == {experiment}
    assert len(made) * math.prod(len(axes[axis].split(",")) for axis in fixed) == arms


@pytest.mark.soak
@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=table5", "seed=0", "operating_point=matched", "data=harmless,helpful"],
        ["objective=dpo,ipo", "method=human,cw_po"],
    ],
)
def test_composing_choices_apart_gives_what_composing_them_together_does(overrides):
    for made in expand(overrides):
        choices = [o for o in overrides if "," not in o] + [
            f"{group}={getattr(made.cfg, group).name}" for group in ("data", "pair", "objective", "method", "weighting")
        ]
        together = composed(*choices)
        assert made.cfg == at_operating_point(OmegaConf.to_object(together))


def test_seeds_replace_the_experiments_own():
    made = expand(["experiment=table13", "data=helpful"], seeds=[7, 8])
    assert len(made) == 5 * 2
    assert {arm.cfg.seed for arm in made} == {7, 8}


def test_an_override_with_several_values_replaces_an_axis_too():
    made = expand(["experiment=table13", "human_fraction=0.25,0.75", "data=helpful", "seed=0"])
    assert [arm.cfg.human_fraction for arm in made] == [0.25, 0.75]


def test_zero_is_a_seed():
    zero, one, default = (expand([*words])[0] for words in (["seed=0"], ["seed=1"], []))
    assert zero.key == default.key != one.key


@pytest.mark.parametrize(
    "words", [["method=human,filter", "method.selection.value=0.5"], ["seed=0,0,1", "method=human"]]
)
def test_equal_arms_count_once(words):
    assert len(expand(words)) == 2


def test_problems_of_all_arms_are_reported_once_each():
    with pytest.raises(InputError) as refused:
        expand(["method=human,human_all", "weighting=c1,c2", "seed=0,1", "objective.beta=-1"])
    lines = refused.value.problems
    assert len(lines) == len(set(lines)) == 1 + 2 * 2
    assert "objective.beta=-1.0 must be positive" in lines


# --- until --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_until_ends_at_the_stage_it_names(stage):
    (arm,) = expand([f"until={stage}", *REACHED_WITH.get(stage, [])])
    assert arm.run[-1].name == stage


def test_until_a_stage_the_arm_lacks_ends_before_it():
    (arm,) = expand(["method=human", "until=train_gold"])
    assert arm.run[-1].name == "prepare"


def test_without_until_an_arm_ends_in_its_evaluation():
    (arm,) = expand([])
    assert {"assess", "evaluate"} <= {node.name for node in arm.run}
    (same,) = expand(["until=evaluate"])
    assert [node.name for node in same.run] == [node.name for node in arm.run]
    (human,) = expand(["method=human"])
    assert {"assess", "train_annotator", "annotate"} & {node.name for node in human.run} == set()


# --- the lists in schema.py agree with what they stand for ---------------------------------------------------------


def choices_of(group: str) -> set[str]:
    return {name for g, name in CHOICES if g == group}


def test_every_choice_of_a_group_has_its_code():
    import torch

    from cwpo.objectives import pair_losses
    from cwpo.stages.annotate import SCORING
    from cwpo.stages.train_annotator import READS
    from cwpo.weighting import WEIGHTINGS

    assert {name.partition("_")[0] for name in choices_of("weighting")} == set(WEIGHTINGS)
    assert choices_of("annotator") == set(SCORING) == set(READS)
    golds = {*schema.SYNTHETIC_GOLDS, *schema.MODEL_GOLDS, "trained", "paper", "openai"}
    assert choices_of("gold") == golds
    assert choices_of("logger") == {"jsonl", "wandb"}
    for name in choices_of("objective"):
        assert pair_losses(name, torch.zeros(3), beta=0.5, flip_rate=0.1).shape == (3,)


def test_schedulers_are_those_of_transformers():
    from transformers.trainer_utils import SchedulerType

    assert set(schema.SCHEDULERS) <= {kind.value for kind in SchedulerType}


@pytest.mark.parametrize("kind", [schema.Config, *commands.COMMANDS.values()])
def test_defaults_keep_their_own_rules(kind):
    """No rule sees a field's default."""
    for name, key in keys_of(kind).items():
        if key.default not in (None, "???", dataclasses.MISSING):
            assert [rule(key.default) for rule in key.rules] == [None] * len(key.rules), name
        if key.section is not None and key.section is not kind:
            test_defaults_keep_their_own_rules(key.section)


def test_conf_holds_no_machine_path():
    place = re.compile(r"(?<![\w.}])/(home|root|work|tmp|mnt|Users)/")
    assert [f for f in ALL_FILES if place.search(f.read_text(encoding="utf-8"))] == []


# --- comments -----------------------------------------------------------------------------------------------------


def commented_keys(file: Path) -> set[str]:
    """Dotted keys of a file of conf/ with a comment on their line, or on the line above (the file's heading aside)."""
    lines = file.read_text(encoding="utf-8").splitlines()
    whole = file.parent == CONF or any("@package _global_" in line for line in lines[:2])
    path: list[str] = [] if whole else [file.parent.name]
    base, found = len(path), set()
    for number, line in enumerate(lines):
        key = re.match(r"( *)(\w+):(.*)", line)
        if key:
            path = [*path[: base + len(key[1]) // 2], key[2]]
            if "#" in key[3] or (number > 1 and lines[number - 1].lstrip().startswith("#")):
                found.add(".".join(path))
    return found


def test_every_key_is_explained_where_it_is_set():
    found = set().union(*map(commented_keys, ALL_FILES))
    trainings = {key.rsplit(".", 1)[-1] for key in found if key.startswith(("sft.", "alignment."))}
    for key in leaf_keys():
        section, _, leaf = key.rpartition(".")
        in_training = section in ("sft", "alignment") or section.endswith("training")
        assert key in found or (in_training and leaf in trainings), f"{key} has no comment in conf/"
