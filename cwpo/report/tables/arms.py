"""The specs of the paper's tables of aligned models, and of some of ours, in the paper's order of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cwpo.report.tables.spec import Axis, Item, Spec, data, data_item, fixed, method, models

OPT_SMALL, OPT_LARGE = ("opt-125m", "opt-1.3b"), ("opt-125m", "opt-13b")
QWEN_MID, QWEN_LARGE = ("qwen2.5-0.5b", "qwen2.5-7b"), ("qwen2.5-0.5b", "qwen2.5-14b")
STUDENTS = [
    *(("opt-125m", f"opt-{size}") for size in ("1.3b", "2.7b", "6.7b", "13b")),
    *(("qwen2.5-0.5b", f"qwen2.5-{size}") for size in ("1.5b", "3b", "7b", "14b")),
]
CROSSED = (("opt-125m", "qwen2.5-14b"), ("qwen2.5-0.5b", "opt-13b"), ("qwen2.5-0.5b", "llama-3.1-8b-instruct"))
HH = ("harmless", "helpful", "hh_rlhf")
SHP = tuple(f"shp_ask{name}" for name in ("academia", "baking", "engineers", "philosophy"))
SHARES = (0.3, 0.5, 0.75)
SOME_THRESHOLDS = (0.3, 0.4)
POISON = (0.05, 0.1, 0.15, 0.2)
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
MIXES = ("50/50", "80/20", "20/80")  # percent of Harmless/Helpful among labeled pairs

TOP_STEPS = (
    "All arms train the same number of epochs, so fewer pairs are also fewer steps, and an SFT model that has seen less, "
    "which GRA rewards: read the gold reward with it."
)

HUMAN, CW = method("human"), method("cw_po")
CW_DPO = method("cw_dpo_annotator", optional=True)
# Both WS-DPO arms (labels by implicit reward, by likelihood) show the paper's WS-DPO number; WS_BT shows none.
WS_DPO = (method("ws_dpo", "ws_po"), method("ws_dpo_likelihood", "ws_po", optional=True))
WS_BT = method("ws_bt", optional=True)
WEAK = (*WS_DPO, WS_BT)
HUMAN_ALL = method("human_all", "human")
ONLINE_RM = method("online_rm", "online_dpo_reward_model")
ONLINE_CW, ONLINE_WS = method("online_cw_po"), method("online_ws_po")
ALL_ARMS = fixed(HUMAN, *WEAK, CW, CW_DPO)
USUAL = (
    *((CW, other) for other in (*WEAK, HUMAN)),
    *((other, HUMAN) for other in WEAK),
    *((CW_DPO, other) for other in (WS_DPO[0], HUMAN, CW)),
)


def top(share: float) -> Item:
    """Returns the column of runs on the fraction `share` of the weak labels, the most confident, with all weights 1.

    For share=1, these are the runs of method `ws_bt`.
    """
    paper = {"method": "filter", "setting": f"keep_fraction={share}"}
    if share == 1:
        return Item(f"Top 100 % ({WS_BT.label})", WS_BT.where, paper)
    return Item(f"Top {100 * share:g} %", {"method": "filter", "keep_fraction": share}, paper)


def weight(name: str) -> Item:
    """Returns the column of CW-PO with the weights `name`, one of `c1` to `c4`."""
    return Item(
        name.upper(),
        {"method": "cw_po", "weighting": name},
        {"method": "cw_po", "setting": f"weighting={name.upper()}"},
    )


def mix(share: str, name: str) -> Item:
    """Returns the row of runs on data set `name` with labeled pairs mixed from two data sets.

    `share` is the mixture: "80/20" means 80 % Harmless and 20 % Helpful.
    """
    harmless, helpful = (float(part) / 100 for part in share.split("/"))
    own = harmless if name == "harmless" else helpful
    item = data_item(name)
    return Item(
        f"{share}, {item.label}",
        {**item.where, "own_share": own},
        {**item.paper, "setting": f"labeled_mix_harmless/helpful={share}"},
    )


def poison(share: float) -> Item:
    """Returns the row or column of runs whose annotator also learns from `share` poisoned pairs per labeled pair."""
    return _share("poison_fraction", share, "poisoned")


def labeled(share: float) -> Item:
    """Returns the row or column of runs that use the human labels of this share of the pairs."""
    return _share("human_fraction", share, "labeled")


def _share(column: str, share: float, word: str) -> Item:
    return Item(f"{100 * share:g} % {word}", {column: share}, {"setting": f"{column}={share:g}"})


def annotated_by(item: Item, annotator: str, label: str, paper: str) -> Item:
    return Item(label, {**item.where, "annotator": annotator}, {"method": paper})


C1, *OTHER_WEIGHTS = (weight(name) for name in ("c1", "c2", "c3", "c4"))
BT_CW = annotated_by(CW, "bt", CW.label, "cw_po")
PAIRRM = annotated_by(CW, "pairrm", "CW-PO, PairRM", "cw_po_pairrm")


def only(weak: str, strong: str) -> Axis:
    """Returns an axis with one pair of the paper's models, even if the table has runs of more pairs."""
    return lambda frame: [item for item in models((weak, strong))(frame) if item.paper["strong"] == strong]


def most_confident(name: str, title: str, sections: Axis, **more: Any) -> Spec:
    """Returns the spec of Figure 2, Table 10 or 11: a column for each share of pairs kept, then one for Human."""
    return Spec(
        name,
        title,
        "DPO on the pairs the weak model is most confident about, all weights 1, against human labels on all unlabeled pairs. "
        + TOP_STEPS,
        columns=fixed(*(top(share) for share in (*SHARES, 1.0)), HUMAN),
        rows=(data(*HH),),
        sections=(sections,),
        contrasts=(*((top(0.3), ws) for ws in (top(1.0), *WS_DPO)), (top(1.0), HUMAN), (top(0.3), HUMAN)),
        **more,
    )


def arms_on(
    name: str, title: str, about: str, pairs: Sequence[tuple[str, str]], sets: Sequence[str], columns: Axis = ALL_ARMS
) -> Spec:
    """Returns a spec with a section per pair of models in `pairs`, a row per data set in `sets`, and `columns`."""
    return Spec(name, title, about, columns=columns, rows=(data(*sets),), sections=(models(*pairs),), contrasts=USUAL)


CAPACITY = Spec(
    "capacity",
    "Gain against the strong model's size",
    "DPO with one weak model of each family and strong models of four sizes: the question behind Table 2.",
    columns=ALL_ARMS,
    rows=(data("harmless", "helpful"), models(*STUDENTS, short=True)),
    contrasts=tuple((CW, other) for other in (HUMAN, *WEAK)),
    split="strong",
)
SPECS = (
    CAPACITY,
    arms_on(
        "headline",
        "Headline: weak labels against human labels",
        "The comparison that fits one GPU: DPO on human labels of the unlabeled pairs or of all, and on weak labels.",
        (OPT_SMALL, ("qwen2.5-0.5b", "qwen2.5-1.5b")),
        ("helpful", "harmless"),
        fixed(HUMAN, HUMAN_ALL, *WEAK, CW, CW_DPO, top(0.3)),
    ),
    arms_on(
        "fresh_models",
        "Models pretrained anew for each seed",
        "DPO. Elsewhere all seeds share one set of pretrained models; here each has its own, weak and strong, so that the intervals "
        "say how far results depend on them.",
        (OPT_SMALL, QWEN_MID),
        HH[:2],
    ),
    Spec(
        "table2",
        "Table 2: size of the strong model",
        "DPO with one weak model of each family and four strong ones.",
        columns=ALL_ARMS,
        rows=(data("hh_rlhf", "tldr"), models(*STUDENTS, short=True)),
        contrasts=USUAL,
        split="strong",
    ),
    Spec(
        "table3",
        "Table 3: weak labels from 30 % of the human labels against all human labels",
        "The Human arm trains on all pairs, labeled and unlabeled; CW-PO on the unlabeled 70 %.",
        columns=fixed(HUMAN_ALL, CW),
        rows=(data(*HH, "tldr"),),
        sections=(models(OPT_SMALL, QWEN_MID),),
        contrasts=((CW, HUMAN_ALL),),
    ),
    Spec(
        "table4",
        "Table 4: confidence weights against thresholds",
        "DPO on the most confident weak labels alone, or on all of them weighted.",
        columns=fixed(*(top(share) for share in SOME_THRESHOLDS), CW),
        rows=(data(*HH),),
        sections=(models(OPT_SMALL, QWEN_MID),),
        contrasts=tuple((CW, top(share)) for share in SOME_THRESHOLDS),
        split="data",
    ),
    Spec(
        "table5",
        "Table 5: four ways to turn a score gap into a weight",
        "C1 = 2σ(gap) − 1, C2 = σ(gap), C3 = min(gap, 1), C4 = min(0.2 gap, 1).",
        columns=fixed(C1, *OTHER_WEIGHTS),
        rows=(data(*HH),),
        sections=(models(QWEN_MID),),
        contrasts=tuple((C1, other) for other in OTHER_WEIGHTS),
    ),
    most_confident(
        "table10", "Table 10: the most confident pairs, OPT", only(*OPT_SMALL), experiments=("table10", "figure2")
    ),
    most_confident(
        "table11", "Table 11: the most confident pairs, Qwen", only(*QWEN_MID), experiments=("table11", "figure2")
    ),
    arms_on("table16", "Table 16: weak and strong model from different families", "DPO.", CROSSED, HH),
    arms_on(
        "table23",
        "Table 23: four SHP domains",
        "DPO on questions and answers of four kinds.",
        (QWEN_MID, QWEN_LARGE),
        SHP,
    ),
    Spec(
        "table21",
        "Table 21: online DPO",
        "The policy's own responses, compared by a separate reward model or by the weak model, with and without its confidence.",
        columns=fixed(ONLINE_RM, ONLINE_CW, ONLINE_WS),
        rows=(data("hh_rlhf", "tldr"),),
        sections=(models(("qwen2.5-0.5b", "qwen2.5-3b")),),
        contrasts=((ONLINE_CW, ONLINE_WS), (ONLINE_CW, ONLINE_RM)),
    ),
    Spec(
        "table22",
        "Table 22: online against offline",
        "CW-PO on the policy's own responses, and on the data set's. The paper's offline numbers equal Table 1's for OPT-13B and "
        "differ from Table 2's for Qwen2.5-3B (73.3, 62.7).",
        columns=fixed(ONLINE_CW, CW),
        rows=(data("hh_rlhf", "tldr"),),
        sections=(models(("qwen2.5-0.5b", "qwen2.5-3b")),),
        contrasts=((ONLINE_CW, CW),),
    ),
    Spec(
        "table24",
        "Table 24: mixed labels",
        "The annotator's labeled pairs are a mixture Harmless/Helpful; the strong model is aligned on one of them.",
        columns=fixed(CW, *WEAK),
        rows=(fixed(*(mix(share, name) for share in MIXES for name in ("harmless", "helpful"))),),
        sections=(models(QWEN_MID),),
        contrasts=tuple((CW, other) for other in WEAK),
        split="own_share",
        same=("own_share",),
    ),
    Spec(
        "table25",
        "Table 25: poisoned labels",
        "The annotator learns from Helpful pairs and from Harmless ones labeled against gold, largest gaps first.",
        columns=fixed(CW, *WEAK),
        rows=(fixed(*(poison(share) for share in POISON)),),
        sections=(models(QWEN_MID),),
        contrasts=tuple((CW, other) for other in WEAK),
        split="poison_fraction",
        same=("poison_fraction",),
    ),
    Spec(
        "table26",
        "Table 26: PairRM as the annotator",
        "PairRM reads both responses at once; it takes the place of the Bradley–Terry annotator.",
        columns=fixed(HUMAN, *WEAK, PAIRRM, BT_CW),
        rows=(data("hh_rlhf", "tldr"),),
        sections=(models(QWEN_MID),),
        contrasts=tuple((BT_CW, other) for other in (PAIRRM, *WEAK, HUMAN)),
    ),
)
