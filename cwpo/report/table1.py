"""Table 1: Human, WS-PO and CW-PO under DPO, IPO and rDPO."""

from __future__ import annotations

import pandas as pd

from cwpo.report.cells import NOT_RUN, compare, counts, interval, markdown, outcome, published
from cwpo.report.collect import (
    DATA_NAMES,
    FAMILIES,
    METHOD_NAMES,
    Results,
    datasets,
    one_per_seed,
    pairs,
    paper_value,
)
from cwpo.report.page import Page

METHODS = ("human", "ws_po", "cw_po")
OBJECTIVES = {"dpo": "DPO", "ipo": "IPO", "rdpo": "rDPO"}
PAPER_FAMILIES = ("opt", "qwen")
CONTRASTS = (("cw_po", "ws_po"), ("cw_po", "human"), ("ws_po", "human"))
SAME = ("data", "weak", "strong", "objective", "seed")


def table1(results: Results) -> list[Page]:
    runs = results.of("table1")
    if not len(runs):
        return []
    cells, sections = [], []
    for family, weak, strong in pairs(runs):
        of_pair = runs[(runs["weak"] == weak) & (runs["strong"] == strong)]
        accuracies, rewards = [], []
        for data in datasets(runs):
            for objective in OBJECTIVES:
                gra_line = [f"{DATA_NAMES.get(data, data)}, {OBJECTIVES[objective]}"]
                reward_line = list(gra_line)
                for method in METHODS:
                    chosen = of_pair[
                        (of_pair["data"] == data)
                        & (of_pair["objective"] == objective)
                        & (of_pair["method"] == method)
                    ]
                    cell = outcome(results, one_per_seed(chosen))
                    theirs = paper_value(
                        results.paper,
                        source="table1",
                        weak=family,
                        dataset=data,
                        objective=objective,
                        method=method,
                    )
                    cells.append(
                        {
                            "family": family,
                            "weak": weak,
                            "strong": strong,
                            "data": data,
                            "objective": objective,
                            "method": method,
                            "paper_gra": theirs,
                            **cell,
                        }
                    )
                    gra_line += [interval(cell, "gra"), published(theirs)]
                    reward_line += [
                        interval(cell, "reward", 2),
                        f"{cell['reward_sft']:.2f}" if cell else NOT_RUN,
                    ]
                accuracies.append(gra_line)
                rewards.append(reward_line)
        title = f"{FAMILIES.get(family, family)}: {weak} → {strong}"
        gra_header = [part for method in METHODS for part in (f"{METHOD_NAMES[method]} GRA %", "paper")]
        reward_header = [part for method in METHODS for part in (f"{METHOD_NAMES[method]}", "its SFT model")]
        sections.append(
            f"### {title}\n\n{markdown(['data, objective', *gra_header], accuracies)}\n\n"
            f"Mean gold reward of the same models:\n\n{markdown(['data, objective', *reward_header], rewards)}"
        )
    differences = [contrast for pair in pairs(runs) for contrast in _contrasts(results, runs, *pair)]
    ties = [cell["tie_rate"] for cell in cells if "tie_rate" in cell]
    text = "\n\n".join(
        [
            f"GRA: share of test prompts on which the aligned model's gold reward is above its own SFT model's; mean and 95 % "
            f"bootstrap interval over seeds and prompts; {counts(cells, runs['seed'])}. Ties (counted as losses): "
            f"{min(ties, default=0):.1f} to {max(ties, default=0):.1f} %. GRA compares each arm with its own SFT model, so the "
            "mean gold rewards stand below.",
            *sections,
            *(
                f"### {FAMILIES[name]}\n\n{NOT_RUN}"
                for name in PAPER_FAMILIES
                if name not in set(runs["family"])
            ),
            "### Arm against arm, same prompts\n\nDifference of mean gold rewards and win rate (ties half) of the aligned "
            "models, over all data sets. The intervals resample runs (each data set, objective and seed is one), then the "
            "prompts of each: they speak of data sets and objectives like these, and are wide where these disagree. The "
            "mean differences of the single seeds stand beside them.",
            markdown(
                ["contrast", "difference", "by seed", "win rate %", "runs", "prompts"],
                [
                    [
                        f"{d['pair']}, {OBJECTIVES.get(d['objective'], 'all')}: "
                        f"{METHOD_NAMES[d['a']]} − {METHOD_NAMES[d['b']]}",
                        interval(d, "difference", 3),
                        d["by_seed"],
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


def _contrasts(results: Results, runs: pd.DataFrame, family: str, weak: str, strong: str) -> list[dict]:
    alone = [pair[0] for pair in pairs(runs)].count(family) == 1
    pair = FAMILIES.get(family, family) if alone else f"{weak} → {strong}"
    of_pair = runs[(runs["weak"] == weak) & (runs["strong"] == strong)]
    found = []
    for a, b in CONTRASTS:
        for objective in (*OBJECTIVES, "all"):
            rows = of_pair[(of_pair["objective"] == objective) | (objective == "all")]
            against = compare(results, rows[rows["method"] == a], rows[rows["method"] == b], SAME)
            if against:
                key = {"pair": pair, "family": family, "weak": weak, "strong": strong}
                found.append({**key, "objective": objective, "a": a, "b": b, **against})
    return found
