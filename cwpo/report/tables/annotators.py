"""Tables 6, 12, 13, Figure 8, and the check of the synthetic world: how often annotators agree with humans and gold."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cwpo.config.families import FAMILIES
from cwpo.pages import markdown_table
from cwpo.report.inputs import Results, paper_row, select
from cwpo.report.names import DATA_NAMES
from cwpo.report.tables.arms import FRACTIONS, HH, labeled, poison
from cwpo.report.tables.cells import NOT_RUN, published, ranges
from cwpo.report.tables.kinds import ANNOTATORS
from cwpo.report.tables.page import Page
from cwpo.report.tables.render import pages
from cwpo.report.tables.spec import Item, Spec, data, fixed, weak_models
from cwpo.report.tables.tuning import tuning_cells, tuning_runs
from cwpo.results import MATCHED, OWN_BEST

POISON = (0.0, 0.05, 0.1, 0.15, 0.2)


def trained_as(name: str, label: str, scoring: str | None = None, paper: bool = True) -> Item:
    """Returns the column of annotators of kind `name` with this `scoring` (None: the field is blank).

    With paper=False, the column shows none of the paper's numbers.
    """
    where = {"annotator": name, "scoring": scoring}
    return Item(label, where, {"method": f"annotator={name}" if paper else "none"})


DPO = trained_as("dpo", "DPO", "likelihood")
DPO_IMPLICIT = trained_as("dpo", "DPO, implicit reward", "implicit", paper=False)
SFT_DPO = trained_as("sft_dpo", "SFT+DPO", "likelihood")
SFT_DPO_IMPLICIT = trained_as("sft_dpo", "SFT+DPO, implicit reward", "implicit", paper=False)
BT = trained_as("bt", "Bradley–Terry")
TABLE6 = Spec(
    "table6",
    "Table 6: how the annotator is trained",
    "Annotators trained as policies are scored twice: by the likelihood of a response, which the paper compares, and by the implicit "
    "reward, from which the reference model's likelihood is subtracted.",
    columns=fixed(DPO, SFT_DPO, BT, DPO_IMPLICIT, SFT_DPO_IMPLICIT),
    rows=(data(*HH),),
    sections=(weak_models("opt-125m", "qwen2.5-0.5b"),),
    contrasts=tuple((BT, other) for other in (DPO, SFT_DPO, DPO_IMPLICIT, SFT_DPO_IMPLICIT))
    + ((SFT_DPO, DPO), (SFT_DPO_IMPLICIT, DPO_IMPLICIT)),
    kind=ANNOTATORS,
)
TABLE12 = Spec(
    "table12",
    "Table 12: annotator accuracy by the size of the weak model",
    "Bradley–Terry annotators, 30 % of the pairs labeled.",
    columns=data("harmless", "helpful", "tldr"),
    rows=(weak_models(*(f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "3b", "7b"))),),
    kind=ANNOTATORS,
)
TABLE13 = Spec(
    "table13",
    "Table 13: annotator accuracy by label fraction",
    "Bradley–Terry annotators.",
    columns=fixed(*map(labeled, FRACTIONS)),
    rows=(data(*HH),),
    sections=(weak_models("opt-125m"),),
    kind=ANNOTATORS,
)
FIGURE8 = Spec(
    "figure8",
    "Figure 8: annotators trained on poisoned labels",
    "Bradley–Terry annotators that learn from Helpful pairs and from Harmless ones labeled against gold, largest gaps first; the "
    "disagreement of the figure is 100 % less the accuracy. The paper's points are not published as numbers.",
    columns=fixed(*map(poison, POISON)),
    rows=(data("harmless"),),
    sections=(weak_models("qwen2.5-0.5b"),),
    contrasts=tuple(
        (Item(f"{100 * s:g} %", {"poison_fraction": s}), Item("0 %", {"poison_fraction": 0.0})) for s in POISON[1:]
    ),
    kind=ANNOTATORS,
)
ANNOTATOR_SPECS = (TABLE12, TABLE13, FIGURE8)
# Column of annotators.csv -> title, accepted range in words, its ends. From the paper (Tables 6, 13) and the literature
# on human agreement. The synthetic world was fitted to these ranges before any arm was compared.
TARGETS = {
    "human_gold_agreement": ("human labels agree with gold", ".63 to .77", 0.63, 0.77),
    "accuracy_human": ("annotator agrees with human labels, 30 % labelled", ".62 to .69", 0.62, 0.69),
    "accuracy_gold": ("annotator agrees with gold", "informative, > .70", 0.70, 1.0),
    "accuracy_gold_top30": ("the same, 30 % most confident pairs", "well above all pairs, > .85", 0.85, 1.0),
    "accuracy_gold_bottom30": ("the same, 30 % least confident pairs", "near chance, < .65", 0.50, 0.65),
}
LEAST_GRA, MOST_UNFINISHED, LEAST_FIT = 50, 2, 0.05  # bounds for Human arms: percent, percent, share


def table6(results: Results) -> list[Page]:
    """Returns the pages of Table 6: accuracies, and below them the mean seconds that each way of training takes."""
    return pages(TABLE6, results, below=lambda grid: _seconds(results))


def _seconds(results: Results) -> str:
    rows = results.annotators_of("table6")
    lines = []
    for column in (DPO, SFT_DPO, BT):
        trained = select(rows, column.where)["train_seconds"]
        theirs = paper_row(results.paper, source="table6", metric="training_seconds", method=column.paper["method"])
        ours = f"{trained.mean():.2f}" if len(trained) else NOT_RUN
        paper = published(None if theirs is None else float(theirs["value"]), digits=0)
        lines.append([column.label, ours, paper, str(len(trained))])
    return (
        "Seconds of training, mean over data sets, weak models and seeds (ours on another machine than the paper's, so only their "
        f"ratios compare):\n\n{markdown_table(['', 'seconds', 'paper', 'annotators'], lines)}"
    )


def calibration(results: Results) -> list[Page]:
    """Returns pages that check annotators and the tuned Human arms against accepted ranges; [] unless scale=toy."""
    found = [page for page in (_annotators(results), human_arms(results)) if page is not None]
    if results.scale != "toy" or not found:
        return []
    about = (
        "The synthetic world was fitted to annotators and to the Human arm only, and frozen before arms were compared."
    )
    text = "\n\n".join([about, *(page.text or "" for page in found)])
    first, *rest = (replace(page, text=None) for page in found)
    return [replace(first, name="calibration", title="Calibration of the synthetic world", text=text), *rest]


def _annotators(results: Results) -> Page | None:
    """Returns a page that says which facts of TARGETS lie in their ranges with 30 % of the pairs labeled.

    The annotators are those of the experiment calibration or, if it has none, of table13. Returns None if none ran.
    """
    rows = results.annotators_of("calibration")
    rows = rows if len(rows) else results.annotators_of("table13")
    rows = rows[(rows["human_fraction"] - 0.3).abs() < 1e-9]
    if not len(rows):
        return None
    cells, lines = [], []
    sets = data()(rows)
    for name, (title, accepted, low, high) in TARGETS.items():
        means = {item.where["data"]: float(select(rows, item.where)[name].mean()) for item in sets}
        overall = sum(means.values()) / len(means)
        verdict = "yes" if low <= overall <= high else "no"
        cells.append({"fact": name, **means, "mean": overall, "low": low, "high": high, "holds": verdict})
        values = [*means.values(), overall]
        lines.append([title, *(f"{value:.3f}" for value in values), accepted, verdict])
    header = ["fact", *(item.label for item in sets), "mean", "accepted", "holds"]
    seeds = ranges(sorted(set(rows["seed"])))
    text = f"### Annotators\n\nSeeds {seeds}, {int(rows['n_eval'].iloc[0]):,} test pairs each.\n\n"
    commits, origin = rows["git_commit"], rows["experiment"].iloc[0]
    table = markdown_table(header, lines)
    return Page("calibration", "", text + table, pd.DataFrame(cells), commits, experiment=origin)


def human_arms(results: Results) -> Page | None:
    """Returns a page that checks the tuned Human arms for each family and data set; None if there are none.

    An arm passes if its GRA is above LEAST_GRA, at most MOST_UNFINISHED % of responses are unfinished, and its fit is
    at least LEAST_FIT. The fit is the arm's agreement with its training labels minus the agreement of these labels
    with gold.
    """
    chosen = tuning_cells(results)
    if not len(chosen) or "human" not in set(chosen["method"]):
        return None
    runs = tuning_runs(results).merge(
        chosen[["family", "method", "learning_rate", MATCHED, OWN_BEST]], on=["family", "method", "learning_rate"]
    )
    runs = runs[(runs["method"] == "human") & (runs[MATCHED] | runs[OWN_BEST])]
    cells = []
    for (name, dataset), rows in runs.groupby(["family", "data"], sort=True):
        best = rows[rows[OWN_BEST]]
        cell = {
            "family": name,
            "data": dataset,
            **{f"gra_{point}": 100 * rows[rows[point]]["gra"].mean() for point in (MATCHED, OWN_BEST)},
            "unfinished_sft": 100 * rows["truncated_share_sft"].mean(),
            **{f"unfinished_{p}": 100 * rows[rows[p]]["truncated_share"].mean() for p in (MATCHED, OWN_BEST)},
            "fit": (best["train_accuracy"] - best["human_gold_agreement"]).mean(),
        }
        above = min(cell[f"gra_{point}"] for point in (MATCHED, OWN_BEST)) > LEAST_GRA
        ended = max(value for key, value in cell.items() if key.startswith("unfinished")) <= MOST_UNFINISHED
        cells.append(cell | {"holds": "yes" if above and ended and cell["fit"] >= LEAST_FIT else "no"})
    header = "GRA % matched|own best|unfinished % SFT|matched|own best|fit|holds".split("|")
    lines = [
        [
            f"{FAMILIES.get(cell['family'], cell['family'])}, {DATA_NAMES.get(cell['data'], cell['data'])}",
            *(f"{cell[key]:.1f}" for key in cell if key.startswith(("gra", "unfinished"))),
            *(f"{cell['fit']:+.3f}", cell["holds"]),
        ]
        for cell in cells
    ]
    text = (
        f"### The Human arm\n\nSeeds {ranges(sorted(set(runs['seed'])))}, by family of the strong model and data set, at the update sizes of "
        f"both operating points ([tuning](tuning.md)). Accepted: GRA above {LEAST_GRA} %, at most {MOST_UNFINISHED} % of responses "
        f"unfinished, and in the own-best setting a fit of at least {LEAST_FIT}: how far Human's agreement with its own training labels "
        f"lies above the labels' agreement with gold.\n\n{markdown_table(['', *header], lines)}"
    )
    commits = runs["git_commit"]
    return Page("calibration_human", "", text, pd.DataFrame(cells), commits, experiment="tuning")
