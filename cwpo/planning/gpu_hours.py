"""Estimates GPU-hours before anything has run, as parameters x tokens x operations / rate. Reads only configs.

A training step takes 6 operations per parameter and token: 2 forward, 4 backward. With LoRA it takes 4, because frozen
weights need no gradients. Gradient checkpointing adds 2. Scoring takes 2. Sampling takes 2 per new token, at a far
lower rate, since each token reads all the weights. Reading and writing files is not counted. The rate is the one
measured on this machine for that model size (cwpo.planning.calibration), else a share of plan.tflops, a GPU's peak.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cwpo.config.assets import settled
from cwpo.config.schema import POLICY_ANNOTATORS, Config
from cwpo.errors import InputError
from cwpo.pipeline.arms import Arm
from cwpo.pipeline.graph import Node
from cwpo.planning.calibration import SAMPLING, SCORING, TRAINING, Calibration
from cwpo.stages.divergence import MEASURED
from cwpo.stages.mix_unlabeled import EQ19_SHARE


@dataclass(frozen=True)
class Sizes:
    """Number of pairs in each split (held_out: those for gold=trained), and mean tokens of a prompt and a response."""

    labeled: float
    unlabeled: float
    held_out: float
    test: float
    prompt: float
    response: float

    @property
    def sequence(self) -> float:
        return self.prompt + self.response

    @property
    def packed(self) -> float:
        """Mean tokens of a pair whose prompt is computed once for both responses."""
        return self.prompt + 2 * self.response

    @staticmethod
    def of(cfg: Config) -> "Sizes":
        data = _planned(cfg, cfg.data.name)
        train = float(min(data.train, cfg.data.pairs or data.train))
        held_out = train * cfg.gold.holdout if cfg.gold.name == "trained" else 0.0
        train -= held_out
        labeled = train * cfg.human_fraction
        unlabeled = train * cfg.unlabeled_fraction if cfg.unlabeled_fraction else train - labeled
        if cfg.labeled.unlabeled != "own":
            own = EQ19_SHARE if cfg.labeled.unlabeled == "eq19" else 1.0
            planned = _planned(cfg, str(cfg.labeled.other)).train
            other = min(planned, cfg.data.pairs or planned)
            unlabeled = own * unlabeled + other * (1 - cfg.human_fraction)
        test = min(data.test, cfg.data.test_pairs or data.test)
        return Sizes(labeled, unlabeled, held_out, test, data.prompt, data.response)


def _planned(cfg: Config, name: str) -> Any:
    """Returns the entry of plan.data for a data set. Raises InputError if there is none."""
    if name not in cfg.plan.data:
        raise InputError(
            f"plan.data has no {name}; add its pairs and mean tokens: "
            f"+plan.data.{name}={{train: ..., test: ..., prompt: ..., response: ...}}"
        )
    return cfg.plan.data[name]


def assumptions(arms: Sequence[Arm], measured: Calibration | None = None) -> str:
    """Returns what the GPU-hours assume, as a text: rates, length of responses, size of the data."""
    plan = arms[0].cfg.plan
    sizes = {arm.cfg.data.name: plan.data[arm.cfg.data.name] for arm in arms}
    data = "; ".join(
        f"{name} {size.train:,} + {size.test:,} pairs, a prompt of {size.prompt:g} tokens, a response of {size.response:g}"
        for name, size in sizes.items()
    )
    stated = (
        f"GPUs of {plan.tflops:g} TFLOP/s, used to {plan.utilisation:.0%} in training and scoring and to "
        f"{plan.generation_utilisation:.1%} in sampling (scripts/preflight.py calibrate=true measures this machine)"
    )
    rates = f"rates measured on {measured.device}" if measured else stated
    return f"{rates}, sampled answers as long as allowed; {data}"


def _hours(cfg: Config, node: Node, sizes: Sizes, measured: Calibration | None) -> float:
    plan, hours = cfg.plan, 0.0
    for kind, model, operations in _work(cfg, node, sizes):
        billions = plan.parameters.get(model or "")
        if billions is None:
            raise InputError(f"plan.parameters has no {model}; set it in billions: '+plan.parameters={{{model}: ...}}'")
        parameters = billions * 1e9
        if measured is not None:
            rate = measured.rate(kind, parameters)
        elif plan.tflops is None:
            raise InputError("plan.tflops is null; set it to the TFLOP/s of one GPU")
        else:
            share = plan.generation_utilisation if kind == SAMPLING else plan.utilisation
            rate = plan.tflops * 1e12 * share
        hours += parameters * operations / rate / 3600
    return hours


def _step(training: Any, lora: bool = False) -> int:
    return (4 if lora else 6) + (2 if training.gradient_checkpointing else 0)


def _epochs(cfg: Config, part: str) -> float:
    """Epochs of `part`, "sft" or "alignment"; method.equal_steps raises them to make up for pairs not selected."""
    raised = cfg.method.equal_steps and (part == "alignment" or cfg.method.sft_labels == "own")
    return getattr(cfg, part).epochs / (cfg.method.selection.value if raised else 1)


def _used(cfg: Config, sizes: Sizes) -> float:
    """Number of pairs that the strong model trains on. For selection by threshold: all pairs, an upper bound."""
    method = cfg.method
    pairs = sizes.labeled + sizes.unlabeled if method.pairs == "all" else getattr(sizes, method.pairs)
    return pairs * (method.selection.value or 0.0) if method.selection.kind == "top_fraction" else pairs


# The work of a stage: (kind, one of cwpo.planning.calibration.KINDS; model; operations per parameter of the model).
Work = list[tuple[str, str | None, float]]


def _work(cfg: Config, node: Node, sizes: Sizes) -> Work:
    """Returns the Work of a stage; [] if its hours are not counted."""
    strong, gold, new = cfg.pair.strong, cfg.gold.path, cfg.generation.max_new_tokens
    pairs, used = sizes.labeled + sizes.unlabeled + sizes.test, _used(cfg, sizes)
    prompts = min(sizes.test, cfg.evaluation.prompts or sizes.test)
    match node.stage.name:
        case "train_annotator":
            return _annotator(cfg, node, sizes)
        case "train_gold":
            training = cfg.gold.training
            return [(TRAINING, gold, _step(training) * 2 * sizes.sequence * sizes.held_out * training.epochs)]
        case "annotate":
            implicit = cfg.annotator.scoring == "implicit" and cfg.annotator.name in POLICY_ANNOTATORS
            return [(SCORING, cfg.pair.weak, 2 * (2 if implicit else 1) * 2 * sizes.sequence * pairs)]
        case "sft":
            step = _step(cfg.sft, cfg.lora.enabled)
            learned = used if cfg.method.sft_labels == "own" else sizes.unlabeled
            return [(TRAINING, strong, step * sizes.sequence * learned * _epochs(cfg, "sft"))]
        case "reference":
            return [(SCORING, strong, 2 * sizes.packed * used)]
        case "align":
            step = _step(cfg.alignment, cfg.lora.enabled)
            return [(TRAINING, strong, step * sizes.packed * used * _epochs(cfg, "alignment"))]
        case "online_align":
            given = cfg.online.reward_model if cfg.online.reward == "reward_model" else None
            rewarding = given or cfg.pair.weak  # without a name, train_reward trains the weak model
            sampled = used * _epochs(cfg, "alignment")
            tokens = 2 * (sizes.prompt + new) * sampled
            training_work = (TRAINING, strong, (2 + _step(cfg.alignment, cfg.lora.enabled)) * tokens)
            return [training_work, (SCORING, rewarding, 2 * tokens), (SAMPLING, strong, 2 * 2 * new * sampled)]
        case "generate":
            return [(SCORING, strong, 2 * sizes.prompt * prompts), (SAMPLING, strong, 2 * new * prompts)]
        case "divergence":
            responses = 2 * (sizes.prompt + new) * prompts
            return [(SCORING, strong, 2 * (responses + sizes.packed * min(MEASURED, used)))]
        case "score_gold" if gold:
            return [(SCORING, gold, 2 * 2 * sizes.sequence * pairs)]
        case "evaluate" if gold:
            return [(SCORING, gold, 2 * 2 * (sizes.prompt + new) * prompts)]
    return []


def _annotator(cfg: Config, node: Node, sizes: Sizes) -> Work:
    weak, kind = cfg.pair.weak, cfg.annotator.name
    # the reward model of an online arm learns from the pairs that prepare_reward labels, 0.9 of all
    pairs = 0.9 * (sizes.labeled + sizes.unlabeled) if node.name == "train_reward" else sizes.labeled
    if kind not in POLICY_ANNOTATORS:
        training = cfg.annotator.training
        return [(TRAINING, weak, _step(training) * 2 * sizes.sequence * pairs * training.epochs)]
    dpo, sft = cfg.annotator.dpo_training, cfg.annotator.sft_training
    scored = (SCORING, weak, 2 * sizes.packed * pairs)
    work: Work = [scored, (TRAINING, weak, _step(dpo) * sizes.packed * pairs * dpo.epochs)]
    if kind == "sft_dpo":
        work.append((TRAINING, weak, _step(sft) * sizes.sequence * pairs * sft.epochs))
    return work


def stage_hours(arms: Sequence[Arm], nodes: Sequence[Node], measured: Calibration | None = None) -> dict[str, float]:
    """Returns {stage name: GPU-hours} of `nodes`, distinct stages of the arms.

    Raises InputError if the size of a model or data set of an arm is unknown.
    """
    by_key: dict[str, float] = {}
    for arm in arms:
        by_key |= arm_hours(arm, measured)
    by_stage: dict[str, float] = defaultdict(float)
    for node in nodes:
        by_stage[node.stage.name] += by_key[node.key]
    return dict(by_stage)


def arm_hours(arm: Arm, measured: Calibration | None = None) -> dict[str, float]:
    """Returns {stage key: GPU-hours} of an arm. Raises InputError if a model's or data set's size is unknown."""
    cfg, sizes = settled(arm.cfg), Sizes.of(arm.cfg)
    return {node.key: _hours(cfg, node, sizes, measured) for node in arm.run}
