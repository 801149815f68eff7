"""Claims about aligned models: Tables 1 to 5, Figures 2 to 5."""

from __future__ import annotations

from collections.abc import Sequence

from cwpo.report.claims.claim import Claim, arm, better
from cwpo.report.claims.measures import ARM, Terms, contrast, over_best, own_choice_pays, saving
from cwpo.report.names import METHOD_NAMES, WS, WS_DPO, capital
from cwpo.report.tables.figure_specs import THRESHOLDS
from cwpo.report.tables.spec import OBJECTIVES

SOME_FILTERS = [arm("table4", "filter", keep_fraction=share) for share in (0.3, 0.4)]
ALL_FILTERS = [arm("figure4", "filter", keep_fraction=share) for share in THRESHOLDS] + [arm("figure4", "ws_bt")]
RIVAL_WEIGHTS = [arm("table5", "cw_po", weighting=name) for name in ("c2", "c3", "c4")]
BY_FRACTION = (*ARM, "human_fraction")
# Method that CW-PO is compared with -> its name in the statements.
OTHERS = {
    "human": "human labels on the same pairs",
    "ws_dpo": "WS-DPO, the labels of a DPO policy by its implicit reward, unweighted",
    "ws_dpo_likelihood": "WS-DPO with labels by likelihood, unweighted",
    "ws_bt": "the same weak labels unweighted",
}
# Arm of weak labels -> a remark on how it relates to the paper's arms.
REMARKS = dict.fromkeys(
    WS_DPO, "The paper does not say by which rule its WS-DPO reads labels, so its number stands with both."
) | {"ws_bt": "An ablation of ours: the paper prints no arm with these labels unweighted."}
STUDENT = ("data", "weak", "objective")


def _smaller_less_larger(method: str) -> Terms:
    """Returns the mean over the 2 smaller strong models of Table 2 minus that over the 2 larger ones."""
    return [(factor, arm("table2", method, rank=rank)) for rank, factor in enumerate((0.5, 0.5, -0.5, -0.5))]


def cw_over(
    experiment: str,
    what: str = "",
    *,
    lead: str = "",
    note: str = "",
    others: Sequence[str] = (*WS, "human"),
    match: tuple[str, ...] = ARM,
    **conditions: str,
) -> list[Claim]:
    """Returns a claim per method in `others`: CW-PO beats it in mean GRA, over the runs that meet `conditions`.

    The statement of each claim begins with `lead` and ends with `what`; the description of its test ends with `note`.
    """
    id = "_".join([experiment, *conditions.values()])
    return [
        better(
            f"{id}_cw_over_{other}",
            capital(f"{lead}weak labels with confidence weights beat {OTHERS[other]}{what}."),
            arm(experiment, "cw_po", **conditions),
            arm(experiment, other, **conditions),
            test=f"CW-PO − {METHOD_NAMES[other]}{note}",
            match=match,
            remark=REMARKS.get(other, ""),
        )
        for other in others
    ]


ARM_CLAIMS = (
    *(
        claim
        for objective, name in OBJECTIVES.items()
        for claim in cw_over(
            "table1",
            ", on average over data sets and model pairs",
            lead=f"With {name}, ",
            note=f", {name}",
            objective=objective,
        )
    ),
    *cw_over("table2", " across student sizes"),
    *(
        Claim(
            f"table2_gain_over_{other}_shrinks",
            f"The gain of CW-PO over {METHOD_NAMES[other]} is larger for small students than for large ones.",
            f"(CW-PO − {METHOD_NAMES[other]}) of the two smaller students less that of the two larger, GRA",
            contrast(_smaller_less_larger("cw_po"), _smaller_less_larger(other), match=STUDENT),
            remark=REMARKS.get(other, ""),
        )
        for other in (*WS, "human")
    ),
    better(
        "table3_cw30_over_human100",
        "Weak labels with confidence weights, from 30 % of the human labels, beat 100 % human labels.",
        arm("table3", "cw_po"),
        arm("table3", "human_all"),
        test="CW-PO (30 % labels) − Human (100 % labels)",
        remark="The Human arm also trains on the labeled pairs: 100 % of the pairs against 70 %.",
    ),
    Claim(
        "table3_saves_labels",
        "CW-PO needs fewer human labels than aligning on human labels of all pairs.",
        "human labels, in percent of all pairs: Human (100 %) − CW-PO",
        contrast([(1, arm("table3", "human_all"))], [(1, arm("table3", "cw_po"))]),
        number="labels",
        unit="% of the pairs",
        floor=5,
        second=None,
        remark="The design sets this share; the claim on Table 3 above says at what quality.",
    ),
    Claim(
        "table3_saves_seconds",
        "CW-PO takes no more training than aligning on human labels of all pairs, its annotator included.",
        "training seconds of annotator and CW-PO model below those of the Human (100 %) model",
        saving(arm("table3", "cw_po"), [arm("table3", "human_all")], match=ARM),
        number="seconds",
        unit="%",
        floor=5,
        second=None,
        remark="Seconds of the annotator and of the preference optimisation, without SFT and scoring, which the result files do "
        "not hold; nor do they hold tokens. CW-PO's annotator comes on top of an alignment on fewer pairs; the larger the strong model, "
        "the smaller its share.",
    ),
    better(
        "figure2_top30_over_all",
        "Keeping only the 30 % most confident Bradley–Terry labels beats keeping all of them, weight 1.",
        arm("figure2", "filter", keep_fraction=0.3),
        arm("figure2", "ws_bt"),
        test="top 30 % − all weak labels",
        remark="The same epochs on fewer pairs are fewer steps, and the SFT baseline has seen fewer pairs too.",
    ),
    better(
        "figure2_all_over_human",
        "All Bradley–Terry labels, unweighted, beat human labels on the same pairs.",
        arm("figure2", "ws_bt"),
        arm("figure2", "human"),
        test="all weak labels − Human",
    ),
    better(
        "figure2_top30_over_human",
        "The 30 % most confident Bradley–Terry labels beat human labels on all unlabeled pairs.",
        arm("figure2", "filter", keep_fraction=0.3),
        arm("figure2", "human"),
        test="top 30 % − Human",
        remark="The same epochs on fewer pairs are fewer steps, and the SFT baseline has seen fewer pairs too.",
    ),
    better(
        "figure3_cw20_over_human100",
        "Weak labels with confidence weights, from 20 % of the human labels, beat 100 % human labels.",
        arm("figure3_right", "cw_po", human_fraction=0.2),
        arm("table3", "human_all"),
        test="CW-PO (20 % labels) − Human (100 % labels)",
    ),
    *cw_over(
        "figure3_left",
        " at every labeled share",
        lead="with the unlabeled pool fixed, ",
        note=", mean over labeled shares",
        others=WS,
        match=BY_FRACTION,
    ),
    better(
        "figure3_right_cw_over_labeled",
        "Labelling the rest with the weak model beats aligning directly on the labeled part alone.",
        arm("figure3_right", "cw_po"),
        arm("figure3_right", "human_labeled"),
        match=BY_FRACTION,
        test="CW-PO − Human on the labeled part, mean over labeled shares",
    ),
    Claim(
        "figure4_cw_over_best_threshold",
        "Confidence weights beat the best confidence threshold, without having to look for one.",
        "GRA of CW-PO less the threshold that is best on the data set in the other seeds",
        over_best(arm("figure4", "cw_po"), ALL_FILTERS, per=ARM),
    ),
    Claim(
        "figure4_best_threshold_differs",
        "The best confidence threshold differs by data set.",
        "GRA gained by the threshold best on the data set over the one best on all, both chosen on the other seeds",
        own_choice_pays(ALL_FILTERS),
    ),
    Claim(
        "table4_cw_over_best_threshold",
        "Confidence weights beat the better of the thresholds 30 % and 40 %.",
        "GRA of CW-PO less the threshold that is better on the data set and models in the other seeds",
        over_best(arm("table4", "cw_po"), SOME_FILTERS, per=ARM),
    ),
    Claim(
        "table4_best_threshold_differs",
        "Which of the thresholds 30 % and 40 % is better differs by data set.",
        "GRA gained by the threshold better on the data set over the one better on all, both chosen on the other seeds",
        own_choice_pays(SOME_FILTERS),
    ),
    Claim(
        "table5_c1_best",
        "The scaled sigmoid C1 is the best of the four weights.",
        "GRA of C1 less that of C2, C3 or C4, whichever is best in the other seeds",
        over_best(arm("table5", "cw_po", weighting="c1"), RIVAL_WEIGHTS),
    ),
    Claim(
        "figure5_cw_wins",
        "On the same prompts, the CW-PO model's responses win more often than the Human arm's.",
        "win rate of CW-PO against Human, ties half",
        contrast([(1, arm("figure5", "cw_po"))]),
        number="win_rate",
        unit="%",
        value=50,
        second_measure=contrast([(1, arm("figure5", "cw_po"))], [(1, arm("figure5", "human"))]),
    ),
)
