"""Table 13, annotator accuracy by share of labelled pairs; and the facts the synthetic world was calibrated to."""

from __future__ import annotations

import pandas as pd

from cwpo.report.cells import NOT_RUN, markdown, published, span
from cwpo.report.collect import DATA_NAMES, Results, datasets, family, one_per_seed, paper_value
from cwpo.report.page import Page
from cwpo.statistics import bootstrap_interval

# Accepted ranges, from the paper (Tables 6, 13) and the literature on human agreement; fitted before any arm was compared.
TARGETS = {
    "human_gold_agreement": ("human labels agree with gold", ".63 to .77", 0.63, 0.77),
    "accuracy_human": ("annotator agrees with human labels, 30 % labelled", ".62 to .69", 0.62, 0.69),
    "accuracy_gold": ("annotator agrees with gold", "informative, > .70", 0.70, 1.0),
    "accuracy_gold_top30": ("the same, 30 % most confident pairs", "well above all pairs, > .85", 0.85, 1.0),
    "accuracy_gold_bottom30": ("the same, 30 % least confident pairs", "near chance, < .65", 0.50, 0.65),
}


def table13(results: Results) -> list[Page]:
    rows = results.annotators[results.annotators["experiment"] == "table13"]
    rows = rows[rows["annotator"] == "bt"]
    if not len(rows):
        return []
    cells, lines = [], []
    for weak, data in [(w, d) for w in sorted(rows["weak"].unique()) for d in datasets(rows)]:
        for fraction in sorted(rows["human_fraction"].unique()):
            here = rows[
                (rows["weak"] == weak) & (rows["data"] == data) & (rows["human_fraction"] == fraction)
            ]
            theirs = paper_value(
                results.paper,
                source="table13",
                weak=family(weak),
                dataset=data,
                setting=f"human_fraction={fraction:g}",
            )
            label = f"{DATA_NAMES.get(data, data)}, {100 * fraction:g} %"
            cell = {
                "weak": weak,
                "data": data,
                "human_fraction": fraction,
                "paper_accuracy_human": theirs,
            }
            if not len(here):
                cells.append(cell)
                lines.append([label, NOT_RUN, NOT_RUN, published(theirs), NOT_RUN])
                continue
            texts = []
            for name in ("accuracy_human", "accuracy_gold"):
                if here[name].isna().any():
                    texts.append("–")
                    continue
                found = bootstrap_interval(100 * one_per_seed(here)[name].to_numpy(dtype=float))
                cell |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
                texts.append(f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]")
            cell |= {
                "seeds": len(here),
                "pairs": int(here["n_eval"].sum()),
                "n_train": int(here["n_train"].iloc[0]),
            }
            cells.append(cell)
            lines.append(
                [
                    label,
                    f"{cell['n_train']:,}",
                    texts[0],
                    published(theirs),
                    texts[1],
                ]
            )
    ran = [cell for cell in cells if "seeds" in cell]
    seeds, pairs = (sorted({cell[name] for cell in ran}) for name in ("seeds", "pairs"))
    text = (
        f"Accuracy on held-out pairs of the Bradley–Terry annotator ({', '.join(sorted(set(rows['weak'])))}); mean and 95 % "
        f"bootstrap interval over {span(seeds)} seeds ({', '.join(map(str, sorted(set(rows['seed']))))}), {span(pairs)} test "
        "pairs in all per cell.\n\n"
        + markdown(
            ["data, labelled share", "labelled pairs", "vs human labels %", "paper", "vs gold %"], lines
        )
    )
    return [
        Page(
            "table13",
            "Table 13: annotator accuracy by label fraction",
            text,
            pd.DataFrame(cells),
            rows["git_commit"],
        )
    ]


def calibration(results: Results) -> list[Page]:
    """Annotator-level facts at 30 % labels against the ranges accepted when the world was made."""
    rows = results.annotators
    rows = rows[(rows["experiment"] == "table13") & ((rows["human_fraction"] - 0.3).abs() < 1e-9)]
    if results.scale != "toy" or not len(rows):
        return []
    cells, lines = [], []
    names = datasets(rows)
    for name, (title, accepted, low, high) in TARGETS.items():
        means = {data: rows[rows["data"] == data][name].mean() for data in names}
        overall = sum(means.values()) / len(means)
        verdict = "yes" if low <= overall <= high else "no"
        cells.append({"fact": name, **means, "mean": overall, "low": low, "high": high, "holds": verdict})
        lines.append(
            [title, *(f"{value:.3f}" for value in means.values()), f"{overall:.3f}", accepted, verdict]
        )
    header = ["fact", *(DATA_NAMES.get(d, d) for d in names), "mean", "accepted", "holds"]
    text = (
        f"The synthetic world was fitted to these annotator-level facts only, and frozen before arms were compared; "
        f"{rows['seed'].nunique()} seeds, {int(rows['n_eval'].iloc[0]):,} test pairs each.\n\n"
        + markdown(header, lines)
    )
    return [
        Page(
            "calibration", "Calibration of the synthetic world", text, pd.DataFrame(cells), rows["git_commit"]
        )
    ]
