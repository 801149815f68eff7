"""Whether the settings of an arm's method go together."""

from __future__ import annotations

from omegaconf import DictConfig

LABELS = ("human", "weak", "gold", "flips")
REWARDS = ("none", "annotator", "reward_model")


def method_problems(cfg: DictConfig) -> list[str]:
    """Weights and selections that the arm's labels cannot give."""
    problems = []
    method, selection = cfg.method, cfg.method.selection
    if method.labels in LABELS and method.labels != "weak":
        if cfg.weighting.name != "uniform":
            problems.append(
                f"weighting={cfg.weighting.name} needs the weak model's confidence, but method={method.name} uses "
                f"{method.labels} labels; use weighting=uniform or method=cw_po"
            )
        if selection.kind != "all":
            problems.append(
                f"method.selection.kind={selection.kind} needs the weak model's confidence, but method={method.name} uses "
                f"{method.labels} labels; use method.selection.kind=all or method=filter"
            )
    if selection.kind == "top_fraction" and not selection.value:
        problems.append(f"method.selection.value={selection.value} must be in (0, 1] for top_fraction")
    if method.equal_steps and selection.kind != "top_fraction":
        problems.append(
            "method.equal_steps=true makes up for pairs left out by a share that is known beforehand, so it needs "
            f"method.selection.kind=top_fraction, not {selection.kind}"
        )
    if selection.kind == "threshold" and selection.value in (None, 1):
        problems.append(f"method.selection.value={selection.value} must be in [0, 1) for threshold")
    return problems


def online_problems(cfg: DictConfig) -> list[str]:
    """Settings of an online arm that nothing would read, or that need what it does not have."""
    method, online = cfg.method, cfg.online
    if online.reward == "none" or online.reward not in REWARDS:
        return []
    problems = []
    if not method.name.startswith("online_"):
        problems.append(
            f"method.name={method.name} would put an arm with online.reward={online.reward} among the offline ones; use "
            "method=online_cw_po, online_ws_po or online_rm, or a name that starts with online_"
        )
    if method.labels != "weak":
        problems.append(
            f"online.reward={online.reward} starts from the SFT model of the weak labels, but method.labels={method.labels}; "
            "use method.labels=weak"
        )
    if method.selection.kind != "all":
        problems.append(
            f"method.selection.kind={method.selection.kind} chooses among offline pairs, and an online arm trains on none; use "
            "method.selection.kind=all"
        )
    if cfg.weighting.normalize or cfg.weighting.permute:
        problems.append(
            f"weighting={cfg.weighting.name} needs all pairs at once, but online ones come in rounds; use weighting=uniform "
            "or c1 to c4"
        )
    if cfg.annotator.name != "bt":
        problems.append(
            f"online.reward={online.reward} needs an annotator that scores single responses with a scalar head, not "
            f"annotator={cfg.annotator.name}; use annotator=bt"
        )
    if online.reward == "reward_model" and not online.reward_model and cfg.data.source != "world":
        problems.append(
            f"online.reward=reward_model has no synthetic pairs to learn from with data={cfg.data.name}; set "
            "online.reward_model=<checkpoint folder or hub id of a model with one score>"
        )
    if online.reward == "reward_model" and (online.reward_model or "").startswith("world/"):
        problems.append(
            f"online.reward_model={online.reward_model} is a language model, which scores nothing; use "
            "online.reward_model=null, which trains one on synthetic pairs"
        )
    return problems
