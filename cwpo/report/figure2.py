"""Figure 2 (Tables 10, 11): the top-N % most confident pairs against human labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.report.cells import NOT_RUN, counts, interval, markdown, outcome, published
from cwpo.report.collect import DATA_NAMES, FAMILIES, SCALE_NOTES, Results, paper_value
from cwpo.report.page import Page
from cwpo.report.style import BLUE, GREY, ORANGE, figure, save

SHARES = (30, 50, 75, 100)
SOURCES = {"opt": "table10", "qwen": "table11"}


def cells(results: Results) -> pd.DataFrame:
    """One row per family, data set and arm; `share` is N, or 0 for Human."""
    runs = results.of("figure2")
    found: list[dict[str, Any]] = []
    for family in [name for name in FAMILIES if name in set(runs["family"])]:
        for data in [name for name in DATA_NAMES if name in set(runs["data"])]:
            here = runs[(runs["family"] == family) & (runs["data"] == data)]
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
                        "data": data,
                        "arm": arm,
                        "share": share,
                        "paper_gra": theirs,
                        "n_train": n,
                    }
                    | outcome(results, chosen)
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
                f"{FAMILIES[cell['family']]}, {DATA_NAMES[cell['data']]}, {cell['arm']}",
                f"{cell['n_train']:,.0f}" if ran else NOT_RUN,
                interval(ran, "gra"),
                published(cell["paper_gra"] if pd.notna(cell["paper_gra"]) else None),
                interval(ran, "reward", 2),
                f"{ran['reward_sft']:.2f}" if ran else NOT_RUN,
            ]
        )
    text = (
        f"DPO on the pairs the weak model is most confident about, all weights 1, against human labels on all unlabeled pairs. "
        f"Mean and 95 % bootstrap interval over seeds and prompts; {counts([c for c in frame.to_dict('records') if pd.notna(c.get('gra'))])}. "
        "All arms train the same number of epochs, so fewer pairs are also fewer steps, and an SFT model that has seen less, "
        "which GRA rewards: read the gold reward with it.\n\n"
        + markdown(["pair, data, arm", "pairs", "GRA %", "paper", "gold reward", "its SFT"], rows)
    )
    return [Page("figure2", "Figure 2: the most confident pairs", text, frame, commits=runs["git_commit"])]


def figure2(results: Results, folder: Path) -> list[Path]:
    """GRA (upper row) and mean gold reward (lower row) over N, one column per data set and family; Human as a band."""
    frame = cells(results) if len(results.of("figure2")) else pd.DataFrame()
    if not len(frame) or "gra" not in frame:
        return []
    panels = list(frame[["family", "data"]].drop_duplicates().itertuples(index=False, name=None))
    fig, axes = figure(2, len(panels), width=2.1 * len(panels), height=4.6)
    for column, (family, data) in enumerate(panels):
        here = frame[(frame["family"] == family) & (frame["data"] == data) & frame["gra"].notna()]
        human, top = here[here["share"] == 0], here[here["share"] > 0]
        for axis, name in zip(axes[:, column], ("gra", "reward"), strict=True):
            for row in human.to_dict("records"):
                axis.axhspan(row[f"{name}_low"], row[f"{name}_high"], color=GREY, alpha=0.25, lw=0)
                axis.axhline(row[name], color=GREY, lw=1.5, label="Human (95 % band)")
            errors = [top[name] - top[f"{name}_low"], top[f"{name}_high"] - top[name]]
            axis.errorbar(
                top["share"], top[name], yerr=errors, color=BLUE, marker="o", capsize=3, label="Top N %"
            )
            if name == "gra":
                theirs = frame[
                    (frame["family"] == family) & (frame["data"] == data) & frame["paper_gra"].notna()
                ]
                shares = theirs[theirs["share"] > 0]
                axis.plot(
                    shares["share"],
                    shares["paper_gra"],
                    ls="none",
                    marker="s",
                    mfc="none",
                    color=ORANGE,
                    label="paper, Top N %",
                )
                for value in theirs[theirs["share"] == 0]["paper_gra"]:
                    axis.axhline(value, color=ORANGE, lw=1, ls="--", label="paper, Human")
            axis.set_xticks(SHARES)
        axes[0, column].set_title(f"{FAMILIES[family]}, {DATA_NAMES[data]}")
        axes[1, column].set_xlabel("most confident pairs kept, %")
    axes[0, 0].set_ylabel("GRA, %")
    axes[1, 0].set_ylabel("mean gold reward")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    ran = frame[frame["gra"].notna()]
    fig.legend(handles, labels, loc="lower center", ncols=4, frameon=False, bbox_to_anchor=(0.5, -0.07))
    note = counts(ran.to_dict("records"))
    fig.suptitle(f"Figure 2 · {SCALE_NOTES.get(results.scale, results.scale)} · {note}", fontsize=9)
    return save(fig, folder / "figure2")
