"""Result files and the report over made-up results."""

import re

import numpy as np
import pandas as pd
import pytest
from claims_results import IDS, OPT_LARGE, PROMPTS, QWEN_14B, Row, annotator_of, grid, run_of, write, write_rewards

from cwpo.errors import InputError
from cwpo.report import build
from cwpo.report.build import build_report
from cwpo.report.inputs import load, paper_row
from cwpo.results import (
    ANNOTATOR_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    ResultsError,
    read_rows,
    rewards_file,
    write_rows,
)


def made_up(experiment: str, *, seed: int, lift: float = 0.5, **given) -> tuple[Row, Row, Row]:
    """The rows of one run (see run_of), whose gold rewards are `lift` above those of a run with lift=0."""
    arm = {"experiment": experiment, "weak": "world/opt-32x1", "objective": "dpo", "human_fraction": 0.3, **given}
    return run_of(arm, seed, 0.6, level=lift)


@pytest.fixture(autouse=True)
def tables_only(monkeypatch, request):
    """Figures take seconds, so only tests that look at them draw them."""
    if "figures" not in request.keywords:
        monkeypatch.setattr("cwpo.report.build.AT_MATCHED", ())
        monkeypatch.setattr("cwpo.report.build.OF_ALL", ())


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Table 1, figure 2 and table 13 as a small run would leave them; nobody enters rows meanwhile."""
    monkeypatch.setattr(build, "SETTLES", 0.0)
    where = (OPT_LARGE, (OPT_LARGE[0], QWEN_14B)), ("harmless", "hh_rlhf")
    arms = [
        *grid("table1", *where, ("human", "ws_dpo", "cw_po"), objective=("dpo", "ipo", "rdpo")),
        *grid("figure2", *where, ("human", "ws_bt")),
        *grid("figure2", *where, ("filter",), keep_fraction=(0.3, 0.5)),
    ]
    bt = {"experiment": "table13", "weak": OPT_LARGE[0], "data": "harmless", "annotator": "bt", "accuracy_human": 0.7}
    annotators = [
        annotator_of(bt | {"human_fraction": share}, seed) | {"accuracy_human": 0.64 + 0.01 * seed}
        for share in (0.1, 0.3)
        for seed in (0, 1)
    ]
    return write(tmp_path, [run_of(arm, seed, 0.6) for arm in arms for seed in (0, 1)], annotators)


def test_a_report_waits_for_the_rows_that_another_run_is_entering(tmp_path, monkeypatch):
    """The other run has written runs.csv and writes the rewards of its arms a moment later."""
    only(tmp_path, made_up("table1", data="harmless", strong="world/opt-160x4", seed=0, method="human", lift=0.3))
    (rewards,) = tmp_path.glob("toy/rewards/[!.]*")
    later = rewards.rename(tmp_path / "later")
    waited = []
    monkeypatch.setattr(build.time, "sleep", lambda seconds: waited.append(seconds) or later.rename(rewards))
    assert build_report(tmp_path, "toy") and waited == [build.SETTLES]
    rewards.unlink()
    monkeypatch.setattr(build.time, "sleep", waited.append)
    with pytest.raises(ResultsError, match="lacks prompts of 1 of 1 runs"):
        build_report(tmp_path, "toy")
    assert len(waited) == 2


@pytest.mark.figures
def test_report_writes_every_table_and_figure(results):
    names = {str(path.relative_to(results / "toy")) for path in build_report(results, "toy")}
    assert {"tables/table1.md", "tables/table1.csv", "tables/table1_differences.csv", "tables/figure2.md"} <= names
    assert {"tables/table13.md", "tables/calibration.md", "figures/figure2.png", "figures/figure2.pdf"} <= names


def test_table1_shows_ours_beside_the_papers(results):
    build_report(results, "toy")
    cells = pd.read_csv(results / "toy/tables/table1.csv").set_index(["family", "data", "objective", "method"])
    runs = read_rows(results / "toy/runs.csv", RUN_COLUMNS)
    mine = runs[
        (runs["strong"] == "world/opt-160x4")
        & (runs["data"] == "hh_rlhf")
        & (runs["objective"] == "ipo")
        & (runs["method"] == "cw_po")
        & (runs["experiment"] == "table1")
    ]
    cell = cells.loc[("opt", "hh_rlhf", "ipo", "cw_po")]
    assert cell["gra"] == pytest.approx(100 * mine["gra"].mean(), abs=1e-3)
    assert cell["gra_low"] < cell["gra"] < cell["gra_high"]
    assert cell["paper_gra"] == 63.5
    assert (cell["seeds"], cell["prompts"]) == (2, 2 * PROMPTS)
    text = (results / "toy/tables/table1.md").read_text()
    assert "63.5" in text and "Toy scale" in text and "make reproduce SCALE=toy EXPERIMENT=table1" in text


@pytest.mark.soak
def test_missing_arms_are_marked_not_run(results):
    build_report(results, "toy")
    text = (results / "toy/tables/figure2.md").read_text()
    assert "| Harmless | Top" not in text
    harmless = next(line for line in text.splitlines() if line.startswith("| Harmless |")).split(" | ")
    assert harmless[5:7] == ["not run", "67.7"]  # top 75 %, and the paper's number
    assert f"2 seeds (0–1) and {2 * PROMPTS} prompts" in text  # cells that have not run make no floats of counts
    assert "72.3" in text  # the paper's Table 10, harmless, top 30 %


@pytest.mark.soak
def test_a_table_goes_with_its_runs_and_other_files_stay(results):
    tables = results / "toy/tables"
    build_report(results, "toy")
    (tables / "notes.md").write_text("mine")
    only(results, *(made_up("mine", data="hh_rlhf", strong="world/opt-160x4", seed=s, method="human") for s in (0, 1)))
    written = build_report(results, "toy")
    assert {*tables.iterdir()} == {path for path in written if path.parent == tables} | {tables / "notes.md"}
    assert not list(tables.glob("table1*_differences.csv")) and (tables / "table13.md").exists()


@pytest.mark.soak
def test_the_same_results_give_the_same_bytes(results):
    first = {path: path.read_bytes() for path in build_report(results, "toy")}
    assert first == {path: path.read_bytes() for path in build_report(results, "toy")}


def test_no_results_is_one_clear_error(results):
    with pytest.raises(InputError, match=r"scale=paper: no results in .*; scales with results: toy"):
        build_report(results, "paper")


def test_paper_values_are_found_one_at_a_time(results):
    paper = load(results, "toy").paper
    assert len(paper) == 494
    found = paper_row(paper, source="table1", weak="opt-125m", dataset="hh_rlhf", objective="dpo", method="human")
    assert found["value"] == 56.9
    assert paper_row(paper, source="table1", weak="opt-125m", dataset="harmless") is None
    with pytest.raises(ValueError, match="published numbers meet"):
        paper_row(paper, source="table1", weak="opt-125m")


def only(results, *rows):
    """Replace runs and rewards by these; the other files stay."""
    write_rows(results / "toy/runs.csv", pd.DataFrame([row for row, _, _ in rows]), RUN_COLUMNS)
    write_rewards(results / "toy", [row for row, _, _ in rows], [rewards for _, _, rewards in rows])


def test_a_table_partly_run_says_what_is_missing(results):
    only(results, made_up("table1", data="harmless", strong="world/opt-160x4", seed=0, method="cw_po"))
    build_report(results, "toy")
    text = (results / "toy/tables/table1.md").read_text()
    assert "| Harmless, DPO | not run | – | not run | – | " in text
    assert "| Harmless, IPO | not run | – | not run | – | not run | – |" in text
    assert "| Average | not run | – | not run | – | not run | – |" in text  # not of a part of the cells
    assert f"1 seed (0) and {PROMPTS} prompts" in text
    assert not (results / "toy/tables/figure2.md").exists()


@pytest.mark.soak
@pytest.mark.parametrize("experiment", ["table1", "figure2"])
def test_models_and_data_the_paper_does_not_have_get_their_own_rows(results, experiment):
    strong, seeds = "somewhere/stories260k", (0, 1)
    only(results, *(made_up(experiment, data="mine", strong=strong, seed=s, method="human") for s in seeds))
    build_report(results, "toy")
    row = pd.read_csv(results / f"toy/tables/{experiment}.csv").dropna(subset="gra").iloc[0]
    assert (row["strong"], row["data"], row["seeds"]) == (strong, "mine", 2)
    assert np.isnan(row["paper_gra"])


@pytest.mark.soak
@pytest.mark.parametrize("experiment", ["table1", "figure2"])
def test_two_pairs_of_one_family_share_no_cell(results, experiment):
    strong = ("world/opt-160x4", "world/opt-256x3")
    only(results, *(made_up(experiment, data="hh_rlhf", strong=s, seed=0, method="human") for s in strong))
    build_report(results, "toy")
    cells = pd.read_csv(results / f"toy/tables/{experiment}.csv").dropna(subset="gra")
    assert list(cells["strong"]) == list(strong)
    assert list(cells["seeds"]) == [1, 1]


def twice(experiment: str) -> list[tuple[Row, Row, Row]]:
    """Two runs of one seed that differ in nothing the columns say."""
    made = [
        made_up(experiment, data="hh_rlhf", strong="world/opt-160x4", seed=0, method="ws_bt", lift=lift)
        for lift in (0.0, 1.0)
    ]
    for number, (row, _, rewards) in enumerate(made):
        row["run_key"] = rewards["run_key"] = f"{experiment}{number}"
    return made


@pytest.mark.parametrize("experiment", ["table1", "figure2"])
def test_runs_of_different_settings_are_not_averaged_as_seeds(results, experiment):
    only(results, *twice(experiment))
    message = rf"{experiment}0 \(seed 0\), {experiment}1 .*same seed .*differ in a setting .*name=mine"
    with pytest.raises(ResultsError, match=message):
        build_report(results, "toy")


def test_own_runs_of_one_seed_stand_on_lines_of_their_own(results):
    only(results, *twice("mine"))
    build_report(results, "toy")
    cells = pd.read_csv(results / "toy/tables/mine.csv")
    assert list(cells["run_key"]) == ["mine1", "mine0"]  # the better one first
    assert list(cells["seeds"]) == [1, 1]


def test_own_runs_show_what_varies(results):
    given = {"data": "harmless", "strong": "world/opt-160x4", "method": "cw_po"}
    only(results, *(made_up("mine", **given, seed=s, weighting=w) for s in (0, 1) for w in ("c1", "c2")))
    build_report(results, "toy")
    text = (results / "toy/tables/mine.md").read_text()
    assert "| rank | gold reward | weighting | its SFT model |" in text and "method cw_po" in text
    assert re.findall(r"^\| (\d) \| .* \| (c\d) \|", text, re.MULTILINE) == [("1", "c1"), ("2", "c2")]


def test_rewards_that_are_missing_are_an_error(results):
    path = rewards_file(results / "toy", "table1")
    frame = read_rows(path, REWARD_COLUMNS)
    frame.loc[0, "rewards"] = frame.loc[0, "rewards"].rsplit(" ", 3)[0]
    write_rows(path, frame, REWARD_COLUMNS)
    with pytest.raises(ResultsError, match=f"lacks prompts of 1 of .* has {PROMPTS - 3} of {PROMPTS}"):
        build_report(results, "toy")


@pytest.mark.parametrize("answered", [PROMPTS, PROMPTS - 5])
def test_arms_are_compared_on_the_same_prompts_only(results, answered, monkeypatch):
    arm = {"data": "harmless", "strong": "world/opt-160x4", "seed": 0}
    human = made_up("table1", **arm, method="human")
    monkeypatch.setattr("claims_results.PROMPTS", answered)
    monkeypatch.setattr("claims_results.IDS", IDS[:answered])
    ours = made_up("table1", **arm, method="cw_po")
    ours[2]["prompts"] = "other"
    only(results, human, ours)
    with pytest.raises(ResultsError, match="answered different prompts"):
        build_report(results, "toy")


@pytest.mark.soak
def test_differences_show_every_seed(results):
    given = {"data": "harmless", "strong": "world/opt-160x4"}
    lifts = {("human", 0): 0.2, ("human", 1): 0.2, ("cw_po", 0): 0.3, ("cw_po", 1): 0.7}
    only(results, *(made_up("table1", **given, method=m, seed=s, lift=x) for (m, s), x in lifts.items()))
    build_report(results, "toy")
    table = pd.read_csv(results / "toy/tables/table1_differences.csv")
    assert set(table["by_seed"]) == {"0.100; 0.500"}
    assert "0.300 [0.100, 0.500] | 0.100; 0.500 |" in (results / "toy/tables/table1.md").read_text()


@pytest.mark.soak
def test_table13_marks_what_has_not_run(results):
    path = results / "toy/annotators.csv"
    frame = read_rows(path, ANNOTATOR_COLUMNS)
    more = frame[frame["human_fraction"] == 0.1].assign(data="helpful", run_key=["x", "y"], accuracy_gold=None)
    write_rows(path, pd.concat([frame, more]), ANNOTATOR_COLUMNS)
    build_report(results, "toy")
    text = (results / "toy/tables/table13.md").read_text()
    helpful = next(line for line in text.splitlines() if line.startswith("| Helpful |"))
    assert "| 61.9 | not run | 63.4 | not run | 65.3 |" in helpful
    assert helpful.startswith("| Helpful | 64.5 [")


def test_tuning_keeps_small_learning_rates(tmp_path):
    arms = grid("tuning", (OPT_LARGE,), ("harmless",), ("human",), learning_rate=(5e-5, 5e-6))
    build_report(write(tmp_path, [run_of(arm, 1000, 0.6) for arm in arms]), "toy")
    assert set(pd.read_csv(tmp_path / "toy/tables/tuning.csv")["learning_rate"]) == {5e-5, 5e-6}
