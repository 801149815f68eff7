"""Claims on where CW-PO works: other families, judges, domains, online training, mixed or poisoned labels, PairRM."""

from __future__ import annotations

from cwpo.report.claims.arms import REMARKS, cw_over
from cwpo.report.claims.claim import Claim, arm, better
from cwpo.report.claims.measures import ARM, Terms, contrast
from cwpo.report.names import METHOD_NAMES, WS


def _more_sensitive(
    experiment: str, what: str, test: str, column: str, better_at: float, worse_at: float
) -> list[Claim]:
    """Returns a claim per method in WS: it loses more GRA than CW-PO if `column` is `worse_at`, not `better_at`."""

    def loss(method: str) -> Terms:
        return [(factor, arm(experiment, method, **{column: at})) for factor, at in ((1, better_at), (-1, worse_at))]

    return [
        Claim(
            f"{experiment}_{other}_more_sensitive",
            f"{METHOD_NAMES[other]} loses more than CW-PO when {what}.",
            f"GRA lost from {test}, {METHOD_NAMES[other]} − CW-PO",
            contrast(loss(other), loss("cw_po")),
            remark=REMARKS[other],
        )
        for other in WS
    ]


ROBUSTNESS_CLAIMS = (
    *cw_over("table16", " when weak and strong model are of different families"),
    *cw_over("table17", " for a second judge as well"),
    better(
        "table21_reward_model_over_online_cw",
        "Online, a separate reward model is a better source of labels than the weak model.",
        arm("table21", "online_rm"),
        arm("table21", "online_cw_po"),
        test="online DPO with a reward model − online CW-PO",
    ),
    better(
        "table22_offline_over_online",
        "Offline CW-PO beats online CW-PO.",
        arm("table22", "cw_po"),
        arm("table22", "online_cw_po"),
        test="offline − online CW-PO",
        remark="The paper's offline cells equal Table 1's for OPT-13B, not Table 2's for the student named: its effect may be larger.",
    ),
    *cw_over("table23", " in the domains of SHP"),
    *cw_over(
        "table24",
        lead="with labeled pairs mixed from two data sets, ",
        note=", mean over mixes",
        others=WS,
        match=(*ARM, "own_share"),
    ),
    *_more_sensitive(
        "table24", "fewer labeled pairs are the arm's own", "80 to 20 % own labeled pairs", "own_share", 0.8, 0.2
    ),
    *_more_sensitive(
        "table25", "more of the labeled pairs are poisoned", "5 to 20 % poison", "poison_fraction", 0.05, 0.2
    ),
    better(
        "table26_bt_over_pairrm",
        "With confidence weights, the Bradley–Terry annotator serves the strong model better than PairRM.",
        arm("table26", "cw_po", annotator="bt"),
        arm("table26", "cw_po", annotator="pairrm"),
        test="CW-PO with BT − CW-PO with PairRM",
    ),
)
