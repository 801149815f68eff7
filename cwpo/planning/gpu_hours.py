"""GPU-hours of stages before anything has run: from parameters, tokens and a rate. Arithmetic on configs only.

A training step takes 6 operations per parameter and token: 2 forward, 4 backward. With LoRA the gradients of the frozen
weights are not needed: 4. Computing activations again adds 2. Scoring takes 2. Sampling takes 2 per new token, at a far
lower rate, since each token reads all the weights. Files are free. The rate is that measured on this machine for a model of
the size (cwpo.planning.calibration), else a stated share of a GPU's peak.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from cwpo.config.assets import settled
from cwpo.config.schema import Config
from cwpo.errors import InputError
from cwpo.pipeline.arms import Arm
from cwpo.pipeline.graph import Node
from cwpo.planning.calibration import SAMPLING, SCORING, TRAINING, Calibration
from cwpo.stages.divergence import MEASURED
from cwpo.stages.mix_unlabeled import EQ19_SHARE


@dataclass(frozen=True)
class Sizes:
    """Numbers of pairs and mean tokens of an arm's data."""

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
        """Tokens of a pair whose prompt is computed once."""
        return self.prompt + 2 * self.response

    @staticmethod
    def of(cfg: Config) -> "Sizes":
        data = cfg.plan.data.get(cfg.data.name)
        if data is None:
            raise InputError(
                f"plan.data has no {cfg.data.name}; add its pairs and mean tokens: "
                f"+plan.data.{cfg.data.name}={{train: ..., test: ..., prompt: ..., response: ...}}"
            )
        train = float(min(data.train, cfg.data.pairs or data.train))
        held_out = train * cfg.gold.holdout if cfg.gold.name == "trained" else 0.0
        train -= held_out
        labeled = train * cfg.human_fraction
        unlabeled = train * cfg.unlabeled_fraction if cfg.unlabeled_fraction else train - labeled
        if cfg.labeled.unlabeled != "own":
            own = EQ19_SHARE if cfg.labeled.unlabeled == "eq19" else 1.0
            other = cfg.plan.data[str(cfg.labeled.other)].train
            unlabeled = own * unlabeled + other * (1 - cfg.human_fraction)
        test = min(data.test, cfg.data.test_pairs or data.test)
        return Sizes(labeled, unlabeled, held_out, test, data.prompt, data.response)


def arm_hours(arm: Arm, measured: Calibration | None = None) -> dict[str, float]:
    """GPU-hours of every stage that an arm runs, by its key. Raises InputError for a model or data set of unknown size."""
    cfg, sizes = settled(arm.cfg), Sizes.of(arm.cfg)
    return {node.key: _hours(cfg, node, sizes, measured) for node in arm.run}


def assumptions(arms: Sequence[Arm], measured: Calibration | None = None) -> str:
    """What the hours rest on, in a sentence."""
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
    work, plan = _WORK.get(node.stage.name), cfg.plan
    hours = 0.0
    for kind, parameters, operations in work(cfg, node, sizes) if work else ():
        if measured is not None:
            rate = measured.rate(kind, parameters)
        elif plan.tflops is None:
            raise InputError("plan.tflops is null; set it to the TFLOP/s of one GPU")
        else:
            share = plan.generation_utilisation if kind == SAMPLING else plan.utilisation
            rate = plan.tflops * 1e12 * share
        hours += parameters * operations / rate / 3600
    return hours


def _parameters(cfg: Config, model: str | None) -> float:
    billions = cfg.plan.parameters.get(model or "")
    if billions is None:
        raise InputError(f"plan.parameters has no {model}; add its billions of parameters")
    return billions * 1e9


def _step(training: Any, lora: bool) -> int:
    return (4 if lora else 6) + (2 if training.gradient_checkpointing else 0)


def _epochs(cfg: Config, part: str) -> float:
    """Passes of sft or alignment, as many as give the steps of all pairs where the method says so."""
    return getattr(cfg, part).epochs / (cfg.method.selection.value if cfg.method.equal_steps else 1)


def _used(cfg: Config, sizes: Sizes) -> float:
    """Pairs that the strong model trains on; by a threshold at most all of them."""
    pairs = {"unlabeled": sizes.unlabeled, "labeled": sizes.labeled, "all": sizes.labeled + sizes.unlabeled}[
        cfg.method.pairs
    ]
    selection = cfg.method.selection
    return pairs * (selection.value or 0.0) if selection.kind == "top_fraction" else pairs


# Of each kind of work a stage does: the model's parameters, and operations per parameter.
Work = list[tuple[str, float, float]]


def _annotator(cfg: Config, node: Node, sizes: Sizes) -> Work:
    weak, kind = _parameters(cfg, cfg.pair.weak), cfg.annotator.name
    # the reward model of an online arm learns from as many pairs of the synthetic world as prepare_reward labels
    pairs = 0.9 * (sizes.labeled + sizes.unlabeled) if node.name == "train_reward" else sizes.labeled
    if kind in ("bt", "pairrm"):
        training = cfg.annotator.training
        return [(TRAINING, weak, _step(training, False) * 2 * sizes.sequence * pairs * training.epochs)]
    dpo, sft = cfg.annotator.dpo_training, cfg.annotator.sft_training
    work = [
        (SCORING, weak, 2 * sizes.packed * pairs),
        (TRAINING, weak, _step(dpo, False) * sizes.packed * pairs * dpo.epochs),
    ]
    if kind == "sft_dpo":
        work.append((TRAINING, weak, _step(sft, False) * sizes.sequence * pairs * sft.epochs))
    return work


def _train_gold(cfg: Config, node: Node, sizes: Sizes) -> Work:
    training = cfg.gold.training
    operations = _step(training, False) * 2 * sizes.sequence * sizes.held_out * training.epochs
    return [(TRAINING, _parameters(cfg, cfg.gold.path), operations)]


def _annotate(cfg: Config, node: Node, sizes: Sizes) -> Work:
    passes = 2 if cfg.annotator.scoring == "implicit" and cfg.annotator.name in ("dpo", "sft_dpo") else 1
    pairs = sizes.labeled + sizes.unlabeled + sizes.test
    return [(SCORING, _parameters(cfg, cfg.pair.weak), 2 * passes * 2 * sizes.sequence * pairs)]


def _sft(cfg: Config, node: Node, sizes: Sizes) -> Work:
    operations = _step(cfg.sft, cfg.lora.enabled) * sizes.sequence * _used(cfg, sizes) * _epochs(cfg, "sft")
    return [(TRAINING, _parameters(cfg, cfg.pair.strong), operations)]


def _reference(cfg: Config, node: Node, sizes: Sizes) -> Work:
    return [(SCORING, _parameters(cfg, cfg.pair.strong), 2 * sizes.packed * _used(cfg, sizes))]


def _align(cfg: Config, node: Node, sizes: Sizes) -> Work:
    step = _step(cfg.alignment, cfg.lora.enabled)
    operations = step * sizes.packed * _used(cfg, sizes) * _epochs(cfg, "alignment")
    return [(TRAINING, _parameters(cfg, cfg.pair.strong), operations)]


def _online(cfg: Config, node: Node, sizes: Sizes) -> Work:
    strong = _parameters(cfg, cfg.pair.strong)
    rewarding = cfg.pair.weak if cfg.online.reward != "reward_model" else cfg.online.reward_model
    new, pairs = cfg.generation.max_new_tokens, _used(cfg, sizes) * _epochs(cfg, "alignment")
    tokens = 2 * (sizes.prompt + new) * pairs
    return [
        (TRAINING, strong, (2 + _step(cfg.alignment, cfg.lora.enabled)) * tokens),
        (SCORING, _parameters(cfg, rewarding), 2 * tokens),
        (SAMPLING, strong, 2 * 2 * new * pairs),
    ]


def _prompts(cfg: Config, sizes: Sizes) -> float:
    return min(sizes.test, cfg.evaluation.prompts or sizes.test)


def _generate(cfg: Config, node: Node, sizes: Sizes) -> Work:
    prompts, strong = _prompts(cfg, sizes), _parameters(cfg, cfg.pair.strong)
    new = cfg.generation.max_new_tokens
    return [(SCORING, strong, 2 * sizes.prompt * prompts), (SAMPLING, strong, 2 * new * prompts)]


def _divergence(cfg: Config, node: Node, sizes: Sizes) -> Work:
    responses = 2 * (sizes.prompt + cfg.generation.max_new_tokens) * _prompts(cfg, sizes)
    pairs = min(MEASURED, _used(cfg, sizes))
    return [(SCORING, _parameters(cfg, cfg.pair.strong), 2 * (responses + sizes.packed * pairs))]


def _gold(cfg: Config, operations: float) -> Work:
    """Nothing where gold is not a model run here: the oracle, or a judge behind an API."""
    return [(SCORING, _parameters(cfg, cfg.gold.path), operations)] if cfg.gold.path else []


def _score_gold(cfg: Config, node: Node, sizes: Sizes) -> Work:
    return _gold(cfg, 2 * 2 * sizes.sequence * (sizes.labeled + sizes.unlabeled + sizes.test))


def _evaluate(cfg: Config, node: Node, sizes: Sizes) -> Work:
    return _gold(cfg, 2 * 2 * (sizes.prompt + cfg.generation.max_new_tokens) * _prompts(cfg, sizes))


_WORK = {
    "train_annotator": _annotator,
    "train_gold": _train_gold,
    "annotate": _annotate,
    "sft": _sft,
    "reference": _reference,
    "align": _align,
    "online_align": _online,
    "generate": _generate,
    "divergence": _divergence,
    "score_gold": _score_gold,
    "evaluate": _evaluate,
}


def stage_hours(
    arms: Sequence[Arm], wanted: Collection[str] | None = None, measured: Calibration | None = None
) -> dict[str, float]:
    """GPU-hours by kind of stage, each distinct stage once; of the stages whose keys are `wanted`, None for all."""
    by_stage: dict[str, float] = defaultdict(float)
    seen: set[str] = set()
    for arm in arms:
        hours = arm_hours(arm, measured)
        for node in arm.run:
            if node.key not in seen and (wanted is None or node.key in wanted):
                seen.add(node.key)
                by_stage[node.stage.name] += hours[node.key]
    return dict(by_stage)
