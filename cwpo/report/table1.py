"""Table 1: Human, WS-PO and CW-PO under DPO, IPO and rDPO."""

from __future__ import annotations

import pandas as pd

from cwpo.report.cells import NOT_RUN, compare, counts, interval, markdown, outcome, published
from cwpo.report.collect import DATA_NAMES, FAMILIES, METHOD_NAMES, Results, paper_value
from cwpo.report.page import Page

METHODS = ("human", "ws_po", "cw_po")
OBJECTIVES = {"dpo": "DPO", "ipo": "IPO", "rdpo": "rDPO"}
CONTRASTS = (("cw_po", "ws_po"), ("cw_po", "human"), ("ws_po", "human"))
SAME = ("data", "weak", "strong", "objective", "seed")


def table1(results: Results) -> list[Page]:
    runs = results.of("table1")
    if not len(runs):
        return []
    cells, sections = [], []
    for family in [name for name in FAMILIES if name in set(runs["family"])]:
        accuracies, rewards = [], []
        for data in [name for name in DATA_NAMES if name in set(runs["data"])]:
            for objective in OBJECTIVES:
                gra_line = [f"{DATA_NAMES[data]}, {OBJECTIVES[objective]}"]
                reward_line = list(gra_line)
                for method in METHODS:
                    chosen = runs[
                        (runs["family"] == family)
                        & (runs["data"] == data)
                        & (runs["objective"] == objective)
                        & (runs["method"] == method)
                    ]
                    cell = outcome(results, chosen)
                    theirs = paper_value(
                        results.paper,
                        source="table1",
                        weak=family,
                        dataset=data,
                        objective=objective,
                        method=method,
                    )
                    key = {"family": family, "data": data, "objective": objective, "method": method}
                    cells.append({**key, "paper_gra": theirs, **cell})
                    gra_line += [interval(cell, "gra"), published(theirs)]
                    reward_line += [
                        interval(cell, "reward", 2),
                        f"{cell['reward_sft']:.2f}" if cell else NOT_RUN,
                    ]
                accuracies.append(gra_line)
                rewards.append(reward_line)
        names = runs[runs["family"] == family].iloc[0]
        title = f"{FAMILIES[family]}: {names['weak']} → {names['strong']}"
        gra_header = [part for method in METHODS for part in (f"{METHOD_NAMES[method]} GRA %", "paper")]
        reward_header = [part for method in METHODS for part in (f"{METHOD_NAMES[method]}", "its SFT model")]
        sections.append(
            f"### {title}\n\n{markdown(['data, objective', *gra_header], accuracies)}\n\n"
            f"Mean gold reward of the same models:\n\n{markdown(['data, objective', *reward_header], rewards)}"
        )
    differences = [contrast for family in FAMILIES for contrast in _contrasts(results, runs, family)]
    ties = [cell["tie_rate"] for cell in cells if "tie_rate" in cell]
    text = "\n\n".join(
        [
            f"GRA: share of test prompts on which the aligned model's gold reward is above its own SFT model's; mean and 95 % "
            f"bootstrap interval over seeds and prompts; {counts(cells)}. Ties (counted as losses): {min(ties):.1f} to "
            f"{max(ties):.1f} %. GRA compares each arm with its own SFT model, so the mean gold rewards stand below.",
            *sections,
            "### Arm against arm, same prompts\n\nDifference of mean gold rewards and win rate (ties half) of the aligned "
            "models, over all data sets.",
            markdown(
                ["contrast", "difference", "win rate %", "runs", "prompts"],
                [
                    [
                        f"{FAMILIES[d['family']]}, {d['objective']}: {METHOD_NAMES[d['a']]} − {METHOD_NAMES[d['b']]}",
                        interval(d, "difference", 3),
                        f"{d['win_rate']:.1f} [{d['win_low']:.1f}, {d['win_high']:.1f}]",
                        str(d["runs"]),
                        f"{d['prompts']:,}",
                    ]
                    for d in differences
                ],
            ),
        ]
    )
    title = "Table 1: three objectives, three label sources"
    return [
        Page("table1", title, text, pd.DataFrame(cells), commits=runs["git_commit"]),
        Page(
            "table1_differences",
            f"{title}: paired differences",
            None,
            pd.DataFrame(differences),
            commits=runs["git_commit"],
        ),
    ]


def _contrasts(results: Results, runs: pd.DataFrame, family: str) -> list[dict]:
    found = []
    for a, b in CONTRASTS:
        for objective in (*OBJECTIVES, "all"):
            rows = runs[
                (runs["family"] == family) & ((runs["objective"] == objective) | (objective == "all"))
            ]
            outcome = compare(results, rows[rows["method"] == a], rows[rows["method"] == b], SAME)
            if outcome:
                found.append({"family": family, "objective": objective, "a": a, "b": b, **outcome})
    return found
