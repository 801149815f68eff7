"""Display names of models, methods, data sets and scales; and which of the paper's models each toy model replaces."""

from __future__ import annotations

import re

from cwpo.config.families import last_part
from cwpo.results import MATCHED, OWN_BEST

# The toy models of conf/scale/toy.yaml, by family and size, and the paper's models that they stand in for.
STAND_INS = {
    "opt-32x1": "OPT-125M",
    "opt-96x3": "OPT-1.3B",
    "opt-128x2": "OPT-2.7B",
    "opt-128x4": "OPT-6.7B",
    "opt-160x4": "OPT-13B",
    "qwen2-32x1": "Qwen2.5-0.5B",
    "qwen2-96x3": "Qwen2.5-1.5B",
    "qwen2-128x2": "Qwen2.5-3B",
    "qwen2-128x4": "Qwen2.5-7B",
    "qwen2-160x4": "Qwen2.5-14B",
    "llama-128x4": "Llama-3.1-8B-Instruct",
}
METHOD_NAMES = {
    "human": "Human",
    "ws_dpo": "WS-DPO",
    "ws_dpo_likelihood": "WS-DPO, likelihood",
    "ws_bt": "BT labels, weight 1",
    "cw_po": "CW-PO",
    "cw_dpo_annotator": "CW-PO, DPO annotator",
    "filter": "Top-N%",
    "human_all": "Human 100 %",
    "human_labeled": "Human, labeled part",
    "gold": "Gold labels",
    "flips": "Uniform flips",
    "online_ws_po": "Online WS-PO",
    "online_cw_po": "Online CW-PO",
    "online_rm": "Online, reward model",
}
SWEPT_NAMES = METHOD_NAMES | {"filter": "Top 30 %"}  # for experiments in which `filter` keeps only 30 %
# Methods of weak labels with weight 1. WS_DPO is the paper's baseline: a weak policy labels by implicit reward or by
# likelihood; the paper does not say which gave its numbers. "ws_bt" is our ablation: CW-PO's labels with weight 1.
WS_DPO = ("ws_dpo", "ws_dpo_likelihood")
WS = (*WS_DPO, "ws_bt")
POINT_NAMES = {MATCHED: "the matched update size", OWN_BEST: "each arm's own best update size"}
DATA_NAMES = {
    "harmless": "Harmless",
    "helpful": "Helpful",
    "hh_rlhf": "HH-RLHF",
    "tldr": "TL;DR",
    "ufb": "UFB",
    "shp_askacademia": "AskAcademia",
    "shp_askbaking": "AskBaking",
    "shp_askengineers": "AskEngineers",
    "shp_askphilosophy": "AskPhilosophy",
}
SCALE_NOTES = {
    "toy": "toy scale: synthetic world, models of 2·10^4 to 10^6 parameters",
    "paper": "paper scale: the published models and data",
}
KNOWN = {name.lower(): name.removesuffix("-Instruct") for name in STAND_INS.values()}


def paper_model(name: str) -> str:
    """Returns in lower case the last part of a model's name; for a toy model, the paper's model that it stands for."""
    last = last_part(name).lower()
    return STAND_INS.get(last, last).lower()


def label(model: str) -> str:
    """Returns a model's display name: `OPT-1.3B` for facebook/opt-1.3b and for world/opt-96x3, the toy that stands for
    it. For a model that the paper does not use, returns the last part of its name."""
    return KNOWN.get(paper_model(model), last_part(model))


def model_size(name: str) -> float:
    """Returns a model's size by its name: width² · layers of toys (qwen2-128x4), else parameters (opt-1.3b), or NaN."""
    last = last_part(name).lower()
    if shape := re.search(r"(\d+)x(\d+)", last):
        return float(shape[1]) ** 2 * float(shape[2])
    if counted := re.search(r"(\d+(?:\.\d+)?)([kmb])(?![a-z0-9])", last):
        return float(counted[1]) * {"k": 1e3, "m": 1e6, "b": 1e9}[counted[2]]
    return float("nan")


def the_point(point: str) -> str:
    """Returns a phrase that names an operating point, e.g. `at the matched update size`."""
    return f"at {POINT_NAMES[point]}"


def scale_note(scale: str) -> str:
    """Returns a note on a scale, e.g. `toy scale: synthetic world, ...`; `<scale> scale` if SCALE_NOTES has none."""
    return SCALE_NOTES.get(scale, f"{scale} scale")


def capital(text: str) -> str:
    """Returns the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
