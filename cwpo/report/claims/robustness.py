"""Claims on where the method holds: other families, judges, domains, online training, mixed and poisoned labels, PairRM."""

from __future__ import annotations

from cwpo.report.claims.arms import cw_over
from cwpo.report.claims.claim import Claim, arm, better
from cwpo.report.claims.measures import ARM, Measure, Term, contrast


def _drop(experiment: str, column: str, better_at: float, worse_at: float) -> Measure:
    """The loss of WS-PO between two values of a setting, less the loss of CW-PO."""
    terms = [
        Term(factor * sign, side, arm(experiment, method, **{column: value}))
        for factor, side, method in ((1, "a", "ws_po"), (-1, "b", "cw_po"))
        for sign, value in ((1, better_at), (-1, worse_at))
    ]
    return contrast(terms)


ROBUSTNESS_CLAIMS = (
    *cw_over("table16", "Table 16", " when weak and strong model are of different families"),
    *cw_over("table17", "Table 17", " for a second judge as well"),
    better(
        "table21_reward_model_over_online_cw",
        "Table 21",
        "Online, a separate reward model is a better source of labels than the weak model.",
        arm("table21", "online_rm"),
        arm("table21", "online_cw_po"),
        test="online DPO with a reward model − online CW-PO",
    ),
    better(
        "table22_offline_over_online",
        "Table 22",
        "Offline CW-PO beats online CW-PO.",
        arm("table22", "cw_po"),
        arm("table22", "online_cw_po"),
        test="offline − online CW-PO",
        remark="The paper's offline cells equal Table 1's for OPT-13B, not Table 2's for the student named: its effect may be larger.",
    ),
    *cw_over("table23", "Table 23", " in the domains of SHP"),
    better(
        "table24_cw_over_ws",
        "Table 24",
        "With labeled pairs mixed from two data sets, confidence weights beat unweighted weak labels.",
        arm("table24", "cw_po"),
        arm("table24", "ws_po"),
        match=(*ARM, "own_share"),
        test="CW-PO − WS-PO, mean over mixes",
    ),
    Claim(
        "table24_ws_more_sensitive",
        "Table 24",
        "Unweighted weak labels lose more than weighted ones when fewer labeled pairs are the arm's own.",
        "GRA lost from 80 to 20 % own labeled pairs, WS-PO − CW-PO",
        _drop("table24", "own_share", 0.8, 0.2),
    ),
    Claim(
        "table25_ws_more_sensitive",
        "Table 25",
        "Unweighted weak labels lose more than weighted ones when more of the labeled pairs are poisoned.",
        "GRA lost from 5 to 20 % poison, WS-PO − CW-PO",
        _drop("table25", "poison_fraction", 0.05, 0.2),
    ),
    better(
        "table26_bt_over_pairrm",
        "Table 26",
        "With confidence weights, the Bradley–Terry annotator serves the strong model better than PairRM.",
        arm("table26", "cw_po", annotator="bt"),
        arm("table26", "cw_po", annotator="pairrm"),
        test="CW-PO with BT − CW-PO with PairRM",
    ),
)
