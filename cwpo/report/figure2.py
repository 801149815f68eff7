"""Figure 2 (Tables 10, 11): the top-N % most confident pairs against human labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.report.cells import NOT_RUN, counts, interval, markdown, outcome, published
from cwpo.report.collect import (
    DATA_NAMES,
    FAMILIES,
    SCALE_NOTES,
    Results,
    datasets,
    one_per_seed,
    pairs,
    paper_value,
)
from cwpo.report.page import Page
from cwpo.report.style import BLUE, GREY, ORANGE, figure, save

SHARES = (30, 50, 75, 100)
LABELS = (HUMAN, PAPER_HUMAN, TOP, PAPER_TOP) = "Human", "Human, paper", "Top N %", "Top N %, paper"
SOURCES = {"opt": "table10", "qwen": "table11"}


def cells(results: Results) -> pd.DataFrame:
    """One row per pair, data set and arm; `share` is N, or 0 for Human."""
    runs = results.of("figure2")
    found: list[dict[str, Any]] = []
    for family, weak, strong in pairs(runs):
        for data in datasets(runs):
            here = runs[(runs["weak"] == weak) & (runs["strong"] == strong) & (runs["data"] == data)]
            for share in (0, *SHARES):
                if share == 0:
                    chosen = here[here["method"] == "human"]
                elif share == 100:
                    chosen = here[here["method"] == "ws_po"]
                else:
                    chosen = here[
                        (here["method"] == "filter") & ((here["keep_fraction"] * 100 - share).abs() < 0.5)
                    ]
                setting = {} if share == 0 else {"setting": f"keep_fraction={share / 100}"}
                theirs = paper_value(
                    results.paper,
                    source=SOURCES.get(family, ""),
                    dataset=data,
                    method="human" if share == 0 else "filter",
                    **setting,
                )
                arm = "Human" if share == 0 else f"Top {share} %"
                n = int(chosen["n_train"].iloc[0]) if len(chosen) else None
                found.append(
                    {
                        "family": family,
                        "weak": weak,
                        "strong": strong,
                        "data": data,
                        "arm": arm,
                        "share": share,
                        "paper_gra": theirs,
                        "n_train": n,
                    }
                    | outcome(results, one_per_seed(chosen))
                )
    return pd.DataFrame(found)


def figure2_table(results: Results) -> list[Page]:
    runs = results.of("figure2")
    if not len(runs):
        return []
    frame = cells(results)
    rows = []
    for cell in frame.to_dict("records"):
        ran = {} if pd.isna(cell.get("gra")) else cell
        rows.append(
            [
                f"{_panel(frame, cell)}, {cell['arm']}",
                f"{cell['n_train']:,.0f}" if ran else NOT_RUN,
                interval(ran, "gra"),
                published(cell["paper_gra"] if pd.notna(cell["paper_gra"]) else None),
                interval(ran, "reward", 2),
                f"{ran['reward_sft']:.2f}" if ran else NOT_RUN,
            ]
        )
    text = (
        f"DPO on the pairs the weak model is most confident about, all weights 1, against human labels on all unlabeled pairs. "
        f"Mean and 95 % bootstrap interval over seeds and prompts; {counts(frame.to_dict('records'), runs['seed'])}. "
        "All arms train the same number of epochs, so fewer pairs are also fewer steps, and an SFT model that has seen less, "
        "which GRA rewards: read the gold reward with it.\n\n"
        + markdown(["pair, data, arm", "pairs", "GRA %", "paper", "gold reward", "its SFT"], rows)
    )
    return [Page("figure2", "Figure 2: the most confident pairs", text, frame, commits=runs["git_commit"])]


def figure2(results: Results, folder: Path) -> list[Path]:
    """Two rows per pair of models, GRA and mean gold reward over N; one column per data set; Human as a band."""
    runs = results.of("figure2")
    frame = cells(results) if len(runs) else pd.DataFrame()
    if not len(frame) or "gra" not in frame:
        return []
    models = list(dict.fromkeys(frame[["weak", "strong"]].itertuples(index=False, name=None)))
    names = list(dict.fromkeys(frame["data"]))
    size = {"width": max(2.3 * len(names), 4.6), "height": 3.6 * len(models) + 0.8}
    with figure(2 * len(models), len(names), **size) as (fig, axes):
        for index, (weak, strong) in enumerate(models):
            for column, data in enumerate(names):
                here = frame[(frame["weak"] == weak) & (frame["strong"] == strong) & (frame["data"] == data)]
                upper, lower = axes[2 * index : 2 * index + 2, column]
                _draw(upper, here, "gra")
                _draw(lower, here, "reward")
                upper.set_title(_panel(frame, here.iloc[0].to_dict()))
            axes[2 * index, 0].set_ylabel("GRA, %")
            axes[2 * index + 1, 0].set_ylabel("mean gold reward")
        for axis in axes[-1]:
            axis.set_xlabel("most confident pairs kept, %")
        found = [axis.get_legend_handles_labels() for axis in axes.flat]
        legend = {label: handle for handles, labels in found for handle, label in zip(handles, labels)}
        shown = [label for label in LABELS if label in legend]
        fig.legend(
            [legend[label] for label in shown], shown, loc="outside lower center", ncols=2, frameon=False
        )
        note = SCALE_NOTES.get(results.scale, results.scale).replace("10^4 to 10^5", "$10^4$ to $10^5$")
        fig.suptitle(
            f"Figure 2 · {note}\n{counts(frame.to_dict('records'), runs['seed'])}; bars and bands: 95 % intervals",
            fontsize=8,
        )
        return save(fig, folder / "figure2")


def _draw(axis: Any, here: pd.DataFrame, name: str) -> None:
    ran = here[here[name].notna()]
    human, top = ran[ran["share"] == 0], ran[ran["share"] > 0]
    for row in human.to_dict("records"):
        axis.axhspan(row[f"{name}_low"], row[f"{name}_high"], color=GREY, alpha=0.25, lw=0)
        axis.axhline(row[name], color=GREY, lw=1.5, label=HUMAN)
    if len(top):
        errors = [top[name] - top[f"{name}_low"], top[f"{name}_high"] - top[name]]
        axis.errorbar(
            top["share"], top[name], yerr=errors, color=BLUE, marker="o", ms=4, capsize=3, label=TOP
        )
    if not len(ran):
        axis.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=axis.transAxes, color=GREY)
    if name == "gra":
        theirs = here[here["paper_gra"].notna()]
        for value in theirs[theirs["share"] == 0]["paper_gra"]:
            axis.axhline(value, color=ORANGE, lw=1, ls="--", label=PAPER_HUMAN)
        shares = theirs[theirs["share"] > 0]
        if len(shares):
            style: dict[str, Any] = {"ls": "none", "marker": "s", "mfc": "none", "color": ORANGE}
            axis.plot(shares["share"], shares["paper_gra"], **style, label=PAPER_TOP)
    axis.set_xticks(SHARES)
    axis.set_xlim(25, 105)


def _panel(frame: pd.DataFrame, cell: dict[str, Any]) -> str:
    """`OPT, Harmless`; the strong model's name where two pairs are of one family."""
    of_family = frame[frame["family"] == cell["family"]]
    alone = len(of_family[["weak", "strong"]].drop_duplicates()) == 1
    models = FAMILIES.get(cell["family"], cell["family"]) if alone else cell["strong"].rsplit("/", 1)[-1]
    return f"{models}, {DATA_NAMES.get(cell['data'], cell['data'])}"
