"""Figure 6: the policy's own responses among those that the annotator learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cwpo.report.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, figure, files
from cwpo.report.inputs import Results, datasets
from cwpo.report.names import DATA_NAMES, METHOD_NAMES, label
from cwpo.statistics import mean_shift

LABELED, OFFLINE = "labeled", "offline"
TITLES = {LABELED: "labeled: what the annotator learned from", OFFLINE: "unlabeled: what it labels offline"}
LOOKS = ((GREY, "o"), (BLUE, "^"), (ORANGE, "x"), (PURPLE, "+"), (GREEN, "v"))


def figure6(results: Results, folder: Path) -> list[Path]:
    """First two principal components of mean hidden states; a panel per data set, all of its first seed and strong model."""
    table = results.embeddings
    if not len(table):
        return []
    names = datasets(table)
    sources = [LABELED, OFFLINE, *sorted(set(table["source"]) - {LABELED, OFFLINE})]
    strong, seed = min(table["strong"]), int(table["seed"].min())
    ours = table[(table["strong"] == strong) & (table["seed"] == seed)]
    most = int(ours.groupby(["data", "source"]).size().max())
    with figure(
        path := folder / "figure6",
        results,
        (1, len(names)),
        size=(max(2.6 * len(names), 3.3), 3.9),
        title=f"Figure 6: responses as {label(strong)} (SFT) represents them",
        sizes=f"seed {seed}, up to {most:,} responses of each kind;\n"
        "shift in units of the labeled responses' spread in this plane",
        legend=1,
    ) as (_, axes):
        for axis, name in zip(axes.flat, names):
            here = ours[ours["data"] == name]
            clouds = {of: here[here["source"] == of][["x", "y"]].to_numpy(float) for of in sources}
            for (of, cloud), (color, marker) in zip(clouds.items(), LOOKS):
                look: Any = {"s": 7, "lw": 0.7, "alpha": 0.65, "color": color, "marker": marker}
                axis.scatter(*cloud.T, label=_title(of), **look)
            shifts = [
                f"{METHOD_NAMES.get(of, of)} {mean_shift(clouds[LABELED], clouds[of]):.2f}"
                for of in sources[1:]
                if len(clouds[of]) and len(clouds[LABELED])
            ]
            axis.set_title(f"{DATA_NAMES.get(name, name)}, shift of means:\n{', '.join(shifts)}")
            axis.set_xlabel("first component")
        axes.flat[0].set_ylabel("second component")
    return files(path)


def _title(source: str) -> str:
    own = f"{METHOD_NAMES.get(source, source)}: the policy's own responses"
    return TITLES.get(source, own)
