"""Tables: what a cell means, what stands in it, averages, and that every experiment has its page."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claims_results import PROMPTS
from conftest import REPO
from report.test_build import made_up, only, results, tables_only  # noqa: F401

from cwpo.config.families import family
from cwpo.report.build import ALL_SPECS, COVERED, build_report
from cwpo.report.claims.evidence import of_results
from cwpo.report.inputs import load, select
from cwpo.report.names import label, paper_model
from cwpo.report.tables.arms import mix, poison, top, weight
from cwpo.report.tables.cells import by_seed, compare, counts, outcome, published, ranges
from cwpo.report.tables.grid import AVERAGE, fill
from cwpo.report.tables.latex import escape
from cwpo.report.tables.spec import Item, join
from cwpo.results import ResultsError, RunRewards

CONF = REPO / "conf"
PAPER = pd.read_csv(REPO / "results/paper/paper_results.csv", keep_default_na=False)
ON = ("data", "weak", "strong", "objective", "seed")


# --- cells, by hand ----------------------------------------------------------------------------------------------


def arms(results, seeds=(0, 1), **lifts):  # noqa: F811
    given = {"data": "harmless", "strong": "world/opt-160x4"}
    rows = [made_up("table1", **given, method=m, seed=s, lift=x) for m, x in lifts.items() for s in seeds]
    only(results, *rows)
    found = load(results, "toy")
    runs = found.of("table1")
    return found, {method: runs[runs["method"] == method] for method in lifts}


def test_an_outcome_is_the_mean_over_seeds_of_the_means_over_prompts(results):  # noqa: F811
    found, of = arms(results, human=0.3)
    cell = outcome(found, [of["human"]])
    rewards = [found.rewards[key] for key in of["human"]["run"]]
    assert cell["gra"] == pytest.approx(100 * np.mean([(r.reward > r.reward_sft).mean() for r in rewards]))
    assert cell["reward"] == pytest.approx(np.mean([r.reward.mean() for r in rewards]))
    assert cell["gra_low"] < cell["gra"] < cell["gra_high"]
    assert (cell["seeds"], cell["prompts"]) == (2, 2 * PROMPTS)
    assert outcome(found, [of["human"].head(0)]) == {}


def test_a_constant_difference_has_no_width(results):  # noqa: F811
    found, of = arms(results, human=0.25, cw_po=0.75)
    cell = compare(found, of["cw_po"], of["human"], ON)
    assert cell["difference"] == pytest.approx(0.5)
    assert cell["difference_low"] == pytest.approx(0.5) == pytest.approx(cell["difference_high"])
    assert cell["win_rate"] == 100
    assert (cell["by_seed"], cell["seeds"], cell["cells"], cell["prompts"]) == ("0.500; 0.500", 2, 1, 2 * PROMPTS)


def test_arms_whose_gold_compared_them_with_their_sft_models_differ_in_gra_alone(results):  # noqa: F811
    """Such a "reward" is the probability of beating the arm's own SFT model, and pairs without a verdict are left out."""
    found, of = arms(results, human=0.25, cw_po=0.75)
    for key, share in ((of["human"]["run"].iloc[0], 0.25), (of["cw_po"]["run"].iloc[0], 0.5)):
        preferred = np.where(np.arange(20 if share == 0.5 else 40) % 4 < 4 * share, 0.75, 0.25)
        ids = [f"{index:02}" for index in range(len(preferred))]
        found.rewards.runs[key] = RunRewards.of(ids, preferred, 1 - preferred)
    first = (of[method][of[method]["seed"] == 0] for method in ("cw_po", "human"))
    cell = compare(found, *first, ON)
    assert cell["gra_difference"] == pytest.approx(25) and (cell["seeds"], cell["prompts"]) == (1, 20)
    assert not {"difference", "win_rate"} & set(cell)
    evidence = of_results(found).arms.set_index("run_key")
    assert evidence.loc[list(of["human"]["run_key"]), "reward"].isna().tolist() == [True, False]


def test_arms_that_share_no_seed_are_not_compared(results):  # noqa: F811
    found, of = arms(results, human=0.25, cw_po=0.75)
    assert compare(found, of["cw_po"][of["cw_po"]["seed"] == 0], of["human"][of["human"]["seed"] == 1], ON) == {}


def test_two_runs_of_one_seed_make_no_cell(results):  # noqa: F811
    found, of = arms(results, human=0.25, cw_po=0.75)
    both = pd.concat(of.values())
    with pytest.raises(ResultsError, match="same seed .*differ in a setting that the table does not show"):
        outcome(found, [both])


def test_an_average_weighs_cells_equally_and_wants_the_same_seeds(results):  # noqa: F811
    found, of = arms(results, human=0.25, cw_po=0.75)
    cell = outcome(found, list(of.values()))
    parts = [outcome(found, [rows]) for rows in of.values()]
    assert cell["reward"] == pytest.approx(np.mean([part["reward"] for part in parts]))
    assert cell["gra"] == pytest.approx(np.mean([part["gra"] for part in parts]))
    assert (cell["seeds"], cell["prompts"]) == (2, 4 * PROMPTS)
    assert outcome(found, [of["human"], of["cw_po"].head(1)]) == {}
    assert outcome(found, [of["human"], of["cw_po"].head(0)]) == {}


# --- what is written -----------------------------------------------------------------------------------------------


def test_numbers_are_written_as_people_read_them():
    assert published(72.34) == "72.3" and published(None) == "–" and published(float("nan")) == "–"
    assert published(72.3, 4.44) == "72.3 ± 4.4"
    assert ranges([0, 1, 2, 7]) == "0–2, 7"
    assert by_seed("0.1; -0.2; 0.3", 3) == "0.1; -0.2; 0.3"
    assert by_seed("; ".join(f"{i}" for i in (3, -1, 2, 0, 1, 4)), 6) == "-1 to 4"
    cells = [{"seeds": 3, "prompts": 3000}, {"seeds": 3, "prompts": 2998}, {}]
    assert counts(cells, [0, 1, 2]) == "3 seeds (0–2) and 2,998 to 3,000 prompts (all seeds together) per cell"


def test_latex_is_escaped():
    assert escape(r"50 % & a_b {x} → \y") == r"50 \% \& a\_b \{x\} $\rightarrow$ \textbackslash{}y"


def test_latex_rows_have_as_many_cells_as_columns(results):  # noqa: F811
    build_report(results, "toy")
    text = (results / "toy/tables/table1.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) > 10 and {line.count("&") for line in rows} == {3}
    assert r"Toy scale: synthetic world, models of 10$^{4}$" in text or "Toy scale" in text


# --- what a cell means ---------------------------------------------------------------------------------------------


def test_conditions_of_a_later_item_count():
    first, second = Item("a", {"x": 1, "y": 2}), Item("b", {"y": 3, "z": None})
    assert join([first, second]) == Item("a, b", {"x": 1, "y": 3, "z": None})
    frame = pd.DataFrame({"x": [1, 1, 2], "y": [2, 5, 2], "z": [None, None, None], "w": [0.1 + 0.2, 0.3, 0.4]})
    assert list(select(frame, {"x": 1, "z": None}).index) == [0, 1]
    assert list(select(frame, {"w": 0.3}).index) == [0, 1]


def test_items_mean_the_arms_of_the_configuration():
    assert top(1.0).where == {"method": "ws_bt"} and top(0.3).where["keep_fraction"] == 0.3
    assert weight("c3").paper["setting"] == "weighting=C3"
    assert mix("80/20", "helpful").where == {"data": "helpful", "own_share": 0.2}
    assert poison(0.05).paper["setting"] == "poison_fraction=0.05"
    assert paper_model("world/qwen2-128x4") == "qwen2.5-7b" and label("world/opt-96x3") == "OPT-1.3B"
    assert label("runs/OPT-1.3B/") == label("facebook/opt-1.3b") == "OPT-1.3B" and family("runs/opt-9b/") == "opt"
    assert label("somewhere/stories260k") == "stories260k"


def test_every_experiment_has_its_page_or_figure():
    names = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert names - COVERED == {"figure6", "figure7", "table6"}  # figures of other files, and a table of its own
    assert {spec.name for spec in ALL_SPECS} <= names


@pytest.mark.parametrize("spec", ALL_SPECS, ids=lambda spec: spec.name)
def test_every_published_number_of_a_table_has_its_cell(spec, made_up_loaded):
    """Each number of the paper stands in one cell, that of WS-DPO in two: beside each rule of reading labels."""
    theirs = PAPER[PAPER["source"].isin(spec.published) & (PAPER["metric"] == spec.kind.metric)]
    grid = fill(spec, made_up_loaded.at("matched"))
    assert grid is not None
    shown = {"ws_dpo": [], "ws_dpo_likelihood": [], "ws_bt": [], "": []}
    for cell in grid.cells:
        if cell["paper"] is not None:
            shown[cell.get("method") if cell.get("method") in shown else ""].append(cell["paper"])
    of_ws = theirs["method"] == "ws_po"
    assert sorted(shown["ws_dpo"]) == sorted(shown["ws_dpo_likelihood"]) == sorted(theirs[of_ws]["value"].astype(float))
    assert sorted(shown[""] + shown["ws_bt"]) == sorted(theirs[~of_ws]["value"].astype(float))
    assert not shown["ws_bt"] or spec.name in ("figure2", "figure4", "table10", "table11")  # all pairs kept


# --- the averages the paper prints -----------------------------------------------------------------------------------

# Of the columns of a section, over its rows, to one decimal.
AVERAGES = {
    ("table1", "opt-13b", "human"): 57.7,
    ("table1", "opt-13b", "ws_po"): 57.1,
    ("table1", "opt-13b", "cw_po"): 61.5,
    ("table1", "qwen2.5-14b", "human"): 73.9,
    ("table1", "qwen2.5-14b", "ws_po"): 74.4,
    ("table1", "qwen2.5-14b", "cw_po"): 76.7,
    ("table3", "opt-1.3b", "human"): 66.4,
    ("table3", "opt-1.3b", "cw_po"): 68.8,
    ("table3", "qwen2.5-7b", "human"): 65.1,
    ("table3", "qwen2.5-7b", "cw_po"): 70.6,
    ("table4", "opt-1.3b", "cw_po"): 71.8,
    ("table4", "qwen2.5-7b", "cw_po"): 72.7,
    ("table16", "qwen2.5-14b", "human"): 66.7,
    ("table16", "qwen2.5-14b", "cw_po"): 69.7,
    ("table16", "opt-13b", "human"): 65.6,
    ("table16", "opt-13b", "cw_po"): 70.5,
    ("table16", "llama-3.1-8b-instruct", "human"): 62.5,
    ("table16", "llama-3.1-8b-instruct", "cw_po"): 64.4,
}


@pytest.mark.parametrize(("source", "strong", "method"), AVERAGES)
def test_averages_follow_from_the_published_cells(source, strong, method, made_up_loaded):
    rows = PAPER[
        (PAPER["source"] == source)
        & (PAPER["strong"] == strong)
        & (PAPER["method"] == method)
        & (PAPER["metric"] == "gra")
    ]
    mean = rows["value"].astype(float).mean()
    assert abs(mean - AVERAGES[source, strong, method]) <= 0.05 + 1e-9
    spec = next(spec for spec in ALL_SPECS if spec.name == source)
    grid = fill(spec, made_up_loaded.at("matched"))
    ours = {"human": ("human", "human_all"), "ws_po": ("ws_dpo",)}.get(method, (method,))
    shown = [
        cell["paper"]
        for section in grid.sections
        for name, cells in section.rows
        if name == AVERAGE
        for cell in cells
        if paper_model(cell["strong"]) == strong and cell["method"] in ours
    ]
    assert shown == [pytest.approx(mean)]


def test_the_gain_of_each_objective_follows_from_table_1():
    """CW-PO less Human and less WS-PO over data sets and both strong models, in points of GRA."""
    table = PAPER[PAPER["source"] == "table1"].astype({"value": float})
    mean = table.groupby(["objective", "method"])["value"].mean()
    gains = {
        (o, m): round(mean[o, "cw_po"] - mean[o, m], 2) for o in ("dpo", "ipo", "rdpo") for m in ("human", "ws_po")
    }
    assert gains == {
        ("dpo", "human"): 1.90,
        ("dpo", "ws_po"): 1.60,
        ("ipo", "human"): 2.93,
        ("ipo", "ws_po"): 3.57,
        ("rdpo", "human"): 5.05,
        ("rdpo", "ws_po"): 4.95,
    }


# --- the committed results -------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_the_report_brings_back_the_committed_tables(tmp_path):
    """From the committed result files, byte for byte."""
    folder = tmp_path / "toy"
    shutil.copytree(REPO / "results/toy/rewards", folder / "rewards")
    for path in (REPO / "results/toy").glob("*.csv"):
        shutil.copy(path, folder)
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/paper_results.csv").write_bytes((REPO / "results/paper/paper_results.csv").read_bytes())
    written = {path.relative_to(folder) for path in build_report(tmp_path, "toy")}
    committed = {path.relative_to(REPO / "results/toy") for path in (REPO / "results/toy/tables").iterdir()}
    assert committed == {path for path in written if path.parent == Path("tables")}
    text = [path for path in written if path.suffix in (".csv", ".md", ".tex", ".json")]
    different = [
        str(path) for path in text if (folder / path).read_bytes() != (REPO / "results/toy" / path).read_bytes()
    ]
    assert different == []


def test_every_number_names_its_scale():
    pages = list((REPO / "results/toy/tables").glob("*.md"))
    assert len(pages) >= 5
    assert all(re.search("^Toy scale", path.read_text(), re.MULTILINE) for path in pages)
