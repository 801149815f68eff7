"""Finds settings of a run that are valid one by one but conflict with each other."""

from collections.abc import Iterator
from pathlib import Path

from cwpo.checks.data import data_problems
from cwpo.checks.machine import machine_problems
from cwpo.checks.reading import wrong
from cwpo.config.schema import CONF, MODEL_GOLDS, SYNTHETIC_GOLDS, Config, TrainingConfig, trainings
from cwpo.config.update_sizes import sizes_of
from cwpo.errors import Problem, nearest


def arm_problems(cfg: Config) -> Iterator[Problem]:
    """Yields a problem for each conflict between keys; also for some values that are invalid by themselves."""
    shares = (cfg.human_fraction, cfg.unlabeled_fraction or 0.0)
    if all(0 <= share < 1 for share in shares) and sum(shares) > 1 + 1e-9:
        why = f"and unlabeled_fraction={shares[1]} are {sum(shares):g} together; they are shares of"
        yield wrong(cfg, "human_fraction", f"{why} the same training pairs, so at most 1")
    for key, training in trainings(cfg).items():
        yield from training_problems(key, training)
        if training.learning_rate is None and (key != "alignment" or sizes_of(cfg) is None):
            at = f"{key}.learning_rate"
            yield Problem(at, f"{at} has no value; give one, e.g. {at}=1e-5")
    yield from method_problems(cfg)
    yield from online_problems(cfg)
    yield from labeled_problems(cfg)
    yield from gold_problems(cfg)
    yield from data_problems(cfg)
    yield from machine_problems(cfg)


def training_problems(key: str, training: TrainingConfig) -> Iterator[Problem]:
    """Yields a problem if the micro-batch size does not divide the batch size. `key`: the config key of `training`."""
    micro, size = training.micro_batch_size or 0, training.batch_size
    if micro > 0 and size % micro:
        at = f"{key}.micro_batch_size"
        yield Problem(at, f"{at}={micro} must divide {key}.batch_size={size}")


# Method whose name promises the labels of one annotator -> that annotator, its scoring rule (None: it has only one).
LABELLED_BY = {
    "ws_bt": ("bt", None),
    "ws_dpo": ("sft_dpo", "implicit"),
    "ws_dpo_likelihood": ("sft_dpo", "likelihood"),
    "cw_dpo_annotator": ("sft_dpo", "implicit"),
}


def method_problems(cfg: Config) -> Iterator[Problem]:
    """Yields a problem if the annotator is not the one that the method's name promises, or if the method cannot use the
    weighting or the selection of pairs that is set."""
    method, kind, value = cfg.method, cfg.method.selection.kind, cfg.method.selection.value
    annotator, scoring = LABELLED_BY.get(method.name, (cfg.annotator.name, None))
    if cfg.annotator.name != annotator or scoring not in (None, cfg.annotator.scoring):
        promised = f"annotator={annotator}" + (f" annotator.scoring={scoring}" if scoring else "")
        why = f"annotator.scoring={cfg.annotator.scoring}: method={method.name} is named for the labels of {promised};"
        yield wrong(cfg, "annotator", f"{why} leave annotator out, or give the arm another method.name")
    if method.labels in ("human", "gold", "flips"):
        why = f"needs the weak model's confidence, but method={method.name} uses {method.labels} labels; use"
        if cfg.weighting.name != "uniform":
            yield wrong(cfg, "weighting", f"{why} weighting=uniform or method=cw_po")
        if kind != "all":
            yield wrong(cfg, "method.selection.kind", f"{why} method.selection.kind=all or method=filter")
    if kind == "top_fraction" and not value:
        yield wrong(cfg, "method.selection.value", "must be in (0, 1] for top_fraction")
    if kind == "threshold" and value in (None, 1):
        yield wrong(cfg, "method.selection.value", "must be in [0, 1) for threshold")
    if method.equal_steps and kind != "top_fraction":
        why = "trains more epochs on fewer pairs, so it needs their share beforehand: use"
        yield wrong(cfg, "method.equal_steps", f"{why} method.selection.kind=top_fraction, not {kind}")


def online_problems(cfg: Config) -> Iterator[Problem]:
    """Yields a problem for each setting that an online arm cannot use; nothing for an offline arm."""
    method, reward = cfg.method, cfg.online.reward
    if reward not in ("annotator", "reward_model"):
        return
    if not method.name.startswith("online_"):
        why = f"would put an arm with online.reward={reward} among the offline ones; use method=online_cw_po,"
        why = f"{why} online_ws_po or online_rm, or a name that starts with online_"
        yield wrong(cfg, "method.name", why)
    if method.labels != "weak":
        why = f"starts from the SFT model of the weak labels, but method.labels={method.labels}; use"
        yield wrong(cfg, "online.reward", f"{why} method.labels=weak")
    if method.selection.kind != "all":
        why = "chooses among offline pairs, and an online arm trains on none; use method.selection.kind=all"
        yield wrong(cfg, "method.selection.kind", why)
    if cfg.weighting.normalize or cfg.weighting.permute:
        why = "needs all pairs at once, but online ones come in rounds; use weighting=uniform or c1 to c4"
        yield wrong(cfg, "weighting", why)
    if cfg.annotator.name != "bt":
        why = "needs an annotator that scores single responses with a scalar head, not"
        yield wrong(cfg, "online.reward", f"{why} annotator={cfg.annotator.name}; use annotator=bt")
    model = (cfg.online.reward_model or "") if reward == "reward_model" else None
    if model == "" and cfg.data.source != "world":
        why = f"has no synthetic pairs to learn from with data={cfg.data.name}; set online.reward_model=<checkpoint"
        yield wrong(cfg, "online.reward", f"{why} folder or hub id of a model with one score>")
    if (model or "").startswith("world/"):
        why = "is a language model and returns no scores; use online.reward_model=null, which trains a reward model"
        yield wrong(cfg, "online.reward_model", f"{why} on synthetic pairs")


def labeled_problems(cfg: Config) -> Iterator[Problem]:
    other, share = cfg.labeled.other, cfg.labeled.own_share
    if share <= 1 and share + cfg.labeled.poison_fraction > 1 + 1e-9:
        why = f"and labeled.own_share={share} are more than 1 together; they are shares of the same labeled pairs: name"
        yield wrong(cfg, "labeled.poison_fraction", f"{why} labeled.other=..., and lower labeled.own_share")
    if other is not None:
        named = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "jsonl")
        if other not in named:
            why = f"is not a data set of conf/data; {nearest(other, named)}"
            yield wrong(cfg, "labeled.other", why)
        if cfg.data.source == "jsonl":
            why = "names a published data set, but data=jsonl is a file; put the rows to mix into one file"
            yield wrong(cfg, "labeled.other", why)
        return
    if cfg.labeled.unlabeled != "own":
        why = "takes pairs of another data set; name it with labeled.other=..."
        yield wrong(cfg, "labeled.unlabeled", why)
    if 0 <= share < 1:
        why = "leaves pairs to another data set; name it with labeled.other=..."
        yield wrong(cfg, "labeled.own_share", why)


def gold_problems(cfg: Config) -> Iterator[Problem]:
    """Yields the problems of the gold model: it cannot judge these data, or it lacks a setting that it needs."""
    name, source, data = cfg.gold.name, cfg.data.source, cfg.data.name
    use = "use gold=trained, or gold=huggingface gold.path=<reward model>"
    if name in SYNTHETIC_GOLDS and source in ("hub", "jsonl"):
        why = f"knows only the synthetic world, but data={data} comes from {source}"
        yield wrong(cfg, "gold", f"{why}; {use}")
    elif name == "paper" and (source != "hub" or cfg.data.gold not in cfg.reward_models):
        why = f"names a reward model for each of the paper's published data sets, and data={data} is not one of them"
        yield wrong(cfg, "gold", f"{why}; {use}")
    elif name == "paper" and cfg.gold.path:
        why = f"is not what gold=paper judges by; use gold=huggingface, or set reward_models.{cfg.data.gold}"
        yield wrong(cfg, "gold.path", why)
    elif name == "trained" and not 0 < cfg.gold.holdout < 1:
        yield wrong(cfg, "gold.holdout", "must be in (0, 1): gold=trained learns from held-out human pairs")
    elif name in MODEL_GOLDS and not cfg.gold.path:
        yield wrong(cfg, "gold", "needs gold.path=<checkpoint folder or hub id>")
    elif name == "openai":
        yield from _judge_problems(cfg)


def _judge_problems(cfg: Config) -> Iterator[Problem]:
    if not cfg.gold.model:
        why = "there is no default, because models are withdrawn and prices differ"
        yield Problem("gold.model", f"gold=openai needs gold.model=<name of the model at the endpoint>; {why}")
    file = cfg.gold.prompt_file
    if file is not None and not Path(file).expanduser().is_file():
        yield wrong(cfg, "gold.prompt_file", "does not exist; name a text file, or null for our own prompt")
    if cfg.method.labels in ("gold", "flips") or cfg.labeled.poison_fraction or cfg.name == "figure7":
        why = (
            "compares the test responses only, but this arm needs gold rewards of its training pairs; use another gold"
        )
        yield wrong(cfg, "gold", why)
    for name, price in cfg.gold.usd_per_million.items():
        if name not in ("input", "output"):
            key = f"gold.usd_per_million.{name}"
            yield Problem(key, f"{key}={price} is no known price; set gold.usd_per_million.input or .output")
