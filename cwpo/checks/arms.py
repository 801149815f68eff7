"""Rules between the keys of a run: settings that are right one by one and do not go together."""

from collections.abc import Iterator
from pathlib import Path

from cwpo.checks.data import data_problems
from cwpo.checks.machine import machine_problems
from cwpo.config.schema import CONF, MODEL_GOLDS, SYNTHETIC_GOLDS, Config, TrainingConfig, trainings
from cwpo.config.update_sizes import sizes_of
from cwpo.errors import Problem, nearest


def arm_problems(cfg: Config) -> Iterator[Problem]:
    """Problems between keys. A value that breaks the rule of its own key may cause some of them as well."""
    yield from split_problems(cfg)
    for key, training in trainings(cfg).items():
        yield from training_problems(key, training)
        if training.learning_rate is None and (key != "alignment" or sizes_of(cfg) is None):
            yield Problem(
                f"{key}.learning_rate",
                f"{key}.learning_rate has no value; give one, e.g. {key}.learning_rate=1e-5",
            )
    yield from method_problems(cfg)
    yield from online_problems(cfg)
    yield from labeled_problems(cfg)
    yield from gold_problems(cfg)
    yield from data_problems(cfg)
    yield from machine_problems(cfg)


def split_problems(cfg: Config) -> Iterator[Problem]:
    shares = (cfg.human_fraction, cfg.unlabeled_fraction or 0.0)
    if all(0 <= share < 1 for share in shares) and sum(shares) > 1 + 1e-9:
        yield Problem(
            "human_fraction",
            f"human_fraction={shares[0]} and unlabeled_fraction={shares[1]} are {sum(shares):g} together; they are shares of "
            "the same training pairs, so at most 1",
        )


def training_problems(key: str, training: TrainingConfig) -> Iterator[Problem]:
    """Problems of a TrainingConfig at the dotted key `key`."""
    micro = training.micro_batch_size or 0
    if micro > 0 and training.batch_size % micro:
        yield Problem(
            f"{key}.micro_batch_size",
            f"{key}.micro_batch_size={micro} must divide {key}.batch_size={training.batch_size}",
        )


# Methods that are named for who labels: annotator and, where it has several, its rule of scoring.
LABELLED_BY = {
    "ws_bt": ("bt", None),
    "ws_dpo": ("sft_dpo", "implicit"),
    "ws_dpo_likelihood": ("sft_dpo", "likelihood"),
    "cw_dpo_annotator": ("sft_dpo", "implicit"),
}


def method_problems(cfg: Config) -> Iterator[Problem]:
    """Weights and selections that the arm's labels cannot give, and names that promise other labels."""
    method, selection = cfg.method, cfg.method.selection
    annotator, scoring = LABELLED_BY.get(method.name, (cfg.annotator.name, None))
    if cfg.annotator.name != annotator or scoring not in (None, cfg.annotator.scoring):
        promised = f"annotator={annotator}" + (f" annotator.scoring={scoring}" if scoring else "")
        yield Problem(
            "annotator",
            f"annotator={cfg.annotator.name} annotator.scoring={cfg.annotator.scoring}: method={method.name} is named for the "
            f"labels of {promised}; leave annotator out, or give the arm another method.name",
        )
    kind, value = selection.kind, selection.value
    if method.labels in ("human", "gold", "flips"):
        why = f"needs the weak model's confidence, but method={method.name} uses {method.labels} labels"
        if cfg.weighting.name != "uniform":
            text = f"weighting={cfg.weighting.name} {why}; use weighting=uniform or method=cw_po"
            yield Problem("weighting", text)
        if kind != "all":
            text = f"method.selection.kind={kind} {why}; use method.selection.kind=all or method=filter"
            yield Problem("method.selection.kind", text)
    if kind == "top_fraction" and not value:
        text = f"method.selection.value={value} must be in (0, 1] for top_fraction"
        yield Problem("method.selection.value", text)
    if kind == "threshold" and value in (None, 1):
        text = f"method.selection.value={value} must be in [0, 1) for threshold"
        yield Problem("method.selection.value", text)
    if method.equal_steps and kind != "top_fraction":
        yield Problem(
            "method.equal_steps",
            "method.equal_steps=true trains more epochs on fewer pairs, so it needs their share beforehand: use "
            f"method.selection.kind=top_fraction, not {kind}",
        )


def online_problems(cfg: Config) -> Iterator[Problem]:
    """Settings of an online arm that no stage would read, or that need something the arm does not have."""
    method, online = cfg.method, cfg.online
    if online.reward not in ("annotator", "reward_model"):
        return
    arm = f"online.reward={online.reward}"
    if not method.name.startswith("online_"):
        yield Problem(
            "method.name",
            f"method.name={method.name} would put an arm with {arm} among the offline ones; use method=online_cw_po, "
            "online_ws_po or online_rm, or a name that starts with online_",
        )
    if method.labels != "weak":
        yield Problem(
            "online.reward",
            f"{arm} starts from the SFT model of the weak labels, but method.labels={method.labels}; use method.labels=weak",
        )
    if method.selection.kind != "all":
        yield Problem(
            "method.selection.kind",
            f"method.selection.kind={method.selection.kind} chooses among offline pairs, and an online arm trains on none; "
            "use method.selection.kind=all",
        )
    if cfg.weighting.normalize or cfg.weighting.permute:
        yield Problem(
            "weighting",
            f"weighting={cfg.weighting.name} needs all pairs at once, but online ones come in rounds; use weighting=uniform "
            "or c1 to c4",
        )
    if cfg.annotator.name != "bt":
        yield Problem(
            "online.reward",
            f"{arm} needs an annotator that scores single responses with a scalar head, not annotator={cfg.annotator.name}; "
            "use annotator=bt",
        )
    if online.reward == "reward_model":
        yield from _reward_model_problems(cfg)


def _reward_model_problems(cfg: Config) -> Iterator[Problem]:
    model = cfg.online.reward_model
    if not model and cfg.data.source != "world":
        yield Problem(
            "online.reward",
            f"online.reward=reward_model has no synthetic pairs to learn from with data={cfg.data.name}; set "
            "online.reward_model=<checkpoint folder or hub id of a model with one score>",
        )
    if (model or "").startswith("world/"):
        yield Problem(
            "online.reward_model",
            f"online.reward_model={model} is a language model and returns no scores; use online.reward_model=null, which "
            "trains a reward model on synthetic pairs",
        )


def labeled_problems(cfg: Config) -> Iterator[Problem]:
    other, share = cfg.labeled.other, cfg.labeled.own_share
    named = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "jsonl")
    if other is not None and other not in named:
        text = f"labeled.other={other} is not a data set of conf/data; {nearest(other, named)}"
        yield Problem("labeled.other", text)
    if other is not None and cfg.data.source == "jsonl":
        yield Problem(
            "labeled.other",
            "labeled.other names a published data set, but data=jsonl is a file; put the rows to mix into one file",
        )
    if other is None and cfg.labeled.unlabeled != "own":
        yield Problem(
            "labeled.unlabeled",
            f"labeled.unlabeled={cfg.labeled.unlabeled} takes pairs of another data set; name it with labeled.other=...",
        )
    if other is None and 0 <= share < 1:
        yield Problem(
            "labeled.own_share",
            f"labeled.own_share={share} leaves pairs to another data set; name it with labeled.other=...",
        )


def gold_problems(cfg: Config) -> Iterator[Problem]:
    """Whether the gold model knows the data and has everything it needs."""
    name, source = cfg.gold.name, cfg.data.source
    use = "use gold=trained, or gold=huggingface gold.path=<reward model>"
    if name in SYNTHETIC_GOLDS and source in ("hub", "jsonl"):
        yield Problem(
            "gold",
            f"gold={name} knows only the synthetic world, but data={cfg.data.name} comes from {source}; {use}",
        )
    elif name == "paper" and (source != "hub" or cfg.data.gold not in cfg.reward_models):
        yield Problem(
            "gold",
            f"gold=paper names a reward model for each of the paper's published data sets, and data={cfg.data.name} is not "
            f"one of them; {use}",
        )
    elif name == "trained" and not 0 < cfg.gold.holdout < 1:
        yield Problem(
            "gold.holdout",
            f"gold.holdout={cfg.gold.holdout} must be in (0, 1): gold=trained learns from held-out human pairs",
        )
    elif name in MODEL_GOLDS and not cfg.gold.path:
        yield Problem("gold", f"gold={name} needs gold.path=<checkpoint folder or hub id>")
    elif name == "openai":
        yield from _judge_problems(cfg)


def _judge_problems(cfg: Config) -> Iterator[Problem]:
    if not cfg.gold.model:
        yield Problem(
            "gold.model",
            "gold=openai needs gold.model=<name of the model at the endpoint>; there is no default, because models are withdrawn and prices differ",
        )
    file = cfg.gold.prompt_file
    if file is not None and not Path(file).expanduser().is_file():
        yield Problem(
            "gold.prompt_file",
            f"gold.prompt_file={file} does not exist; name a text file, or null for our own prompt",
        )
    if cfg.method.labels in ("gold", "flips") or cfg.labeled.poison_fraction or cfg.name == "figure7":
        yield Problem(
            "gold",
            "gold=openai compares the test responses only, but this arm needs gold rewards of its training pairs; use another "
            "gold",
        )
    for name, price in cfg.gold.usd_per_million.items():
        if name not in ("input", "output"):
            key = f"gold.usd_per_million.{name}"
            yield Problem(key, f"{key}={price} must be the price of input or output")
