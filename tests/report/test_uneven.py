"""Results in which arms do not match: other seeds, other prompts, rewards that only compare with the own SFT model."""

import numpy as np
import pandas as pd
import pytest
from claims_results import IDS, OPT_LARGE, OPT_SMALL, PROMPTS, QWEN_MID, annotator_of, confidences, grid, run_of, write

from cwpo.report.answer import answer
from cwpo.report.build import build_report
from cwpo.report.claims.evidence import of_results
from cwpo.report.claims.measures import confidence_distance
from cwpo.report.figures.axes import axis_figures
from cwpo.report.inputs import load
from cwpo.report.sweep import write_sweep
from cwpo.results import CONFIDENCE_COLUMNS, EMBEDDING_COLUMNS, ResultsError, RunRewards, read_rows, write_rows

ARMS = ("human", "cw_po")


def runs_of(experiment, pair, seeds, gra=(0.55, 0.65), methods=ARMS, data=("helpful",), **columns):
    """One run per method, data set and seed; `gra`: of each method."""
    for arm in grid(experiment, (pair,), data, methods, **columns):
        for seed in seeds:
            yield run_of(arm, seed, gra[methods.index(arm["method"])])


def relative(run, drop=0):
    """The same run with rewards that are P(better than the own SFT model), without the first `drop` prompts."""
    row, detail, _ = run
    share = np.where(np.arange(PROMPTS) < round(row["gra"] * PROMPTS), 0.8, 0.3)[drop:]
    means = {"reward_mean": share.mean(), "reward_sft_mean": 1 - share.mean(), "n_eval": len(share)}
    return row | means, detail, RunRewards.of(IDS[drop:], share, 1 - share).row(row["run_key"])


def test_the_answer_counts_every_cell_though_an_experiment_has_fewer_seeds(tmp_path):
    runs = [
        *runs_of("table1", OPT_LARGE, (0, 1, 2), data=("hh_rlhf",), gra=(0.65, 0.55)),
        *runs_of("frontier", QWEN_MID, (0, 1), point=("matched",)),
    ]
    (_, text), *_ = answer(load(write(tmp_path, runs), "toy"))
    assert "cannot be told apart" in text and "2 seeds, 2 cells" in text
    assert "ahead in 1 (Helpful" in text and "behind in 1 (HH-RLHF" in text


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.02, 0.08, 0.14), "cannot be told apart from human labels in mean gold reward: +0.16 ["),
        ((0.10, 0.10), "beats human labels in mean gold reward: +0.2"),
        ((0.10,), "cannot be told apart from human labels in mean gold reward: +0.2"),
    ],
)
def test_the_answer_is_judged_as_the_claims_are(tmp_path, gains, words):
    """All three seeds are ahead, but their t interval contains 0; a bootstrap of three seeds would exclude it."""
    runs = [
        run
        for seed, gain in enumerate(gains)
        for run in runs_of("table1", OPT_LARGE, (seed,), data=("hh_rlhf",), gra=(0.5, 0.5 + gain))
    ]
    (_, text), *_ = answer(load(write(tmp_path, runs), "toy"))
    assert words in text


@pytest.mark.parametrize(
    ("experiment", "data", "pair"), [("table1", "hh_rlhf", OPT_LARGE), ("frontier", "helpful", QWEN_MID)]
)
@pytest.mark.parametrize("drop", [pytest.param(0, marks=pytest.mark.soak), 1])
def test_relative_rewards_give_gra_alone_and_no_traceback(tmp_path, experiment, data, pair, drop):
    runs = [relative(run) for run in runs_of(experiment, pair, (0, 1, 2), data=(data,), point=("matched",))]
    figure5 = [relative(run, drop * (run[0]["method"] == "cw_po")) for run in runs_of("figure5", QWEN_MID, (0, 1, 2))]
    build_report(write(tmp_path, [*runs, *figure5]), "toy")
    if experiment == "table1":
        claims = (tmp_path / "toy/claims.md").read_text()
        (line,) = (line for line in claims.splitlines() if line.startswith("| figure5_cw_wins "))
        assert "not run" in line and "reproduced" not in line


def test_the_page_answers_where_only_the_headline_ran(tmp_path):
    build_report(write(tmp_path, list(runs_of("headline", OPT_SMALL, (0, 1, 2)))), "toy")
    page = (tmp_path / "toy/report.html").read_text()
    assert "CW-PO beats human labels in mean gold reward: +0.20" in page and "The paper's claims" not in page


def test_a_table_of_relative_rewards_with_many_seeds(tmp_path):
    pair, data = QWEN_MID, ("shp_askacademia", "shp_askbaking")
    runs = [relative(run) for run in runs_of("table23", pair, range(6), data=data)]
    build_report(write(tmp_path, runs), "toy")
    assert "CW-PO − Human | – | – | 10.0 [" in (tmp_path / "toy/tables/table23.md").read_text()


def test_histograms_of_annotators_that_differ_in_a_setting_are_not_added(tmp_path):
    confidences(write(tmp_path, []) / "toy", (0, 1))
    path = tmp_path / "toy/confidences.csv"
    rows = pd.read_csv(path, dtype={"run_key": str})
    confidence_distance(of_results(load(tmp_path, "toy")).confidences, "")
    other = rows[rows["data"] == "ufb"].assign(run_key=lambda of: of["run_key"] + "other", pairs=1)
    write_rows(path, pd.concat([rows, other]), CONFIDENCE_COLUMNS)
    with pytest.raises(ResultsError, match="have the same seed and belong in one table cell"):
        confidence_distance(of_results(load(tmp_path, "toy")).confidences, "")


def test_the_same_pair_may_be_a_point_for_several_models_and_seeds(tmp_path):
    point = {"data": "hh_rlhf", "strong": "a", "seed": 0, "source": "labeled", "pair_id": "p", "x": 0.0, "y": 1.0}
    write_rows(
        tmp_path / "e.csv", pd.DataFrame([point, point | {"strong": "b"}, point | {"seed": 1}]), EMBEDDING_COLUMNS
    )
    assert len(read_rows(tmp_path / "e.csv", EMBEDDING_COLUMNS)) == 3
    write_rows(tmp_path / "e.csv", pd.DataFrame([point, point | {"x": 2.0}]), EMBEDDING_COLUMNS)
    with pytest.raises(ResultsError, match="more than once: lines 2, 3"):
        read_rows(tmp_path / "e.csv", EMBEDDING_COLUMNS)


def test_seeds_of_a_threshold_are_one_arm_though_they_keep_other_shares(tmp_path):
    runs = []
    for threshold, shares in ((0.3, (0.61, 0.59)), (0.5, (0.40, 0.39))):
        for seed, share in enumerate(shares):
            (arm,) = grid("mine", (OPT_SMALL,), ("helpful",), ("filter",), threshold=(threshold,))
            row, detail, rewards = run_of(arm, seed, 0.6)
            runs.append((row | {"keep_fraction": share}, detail, rewards))
    build_report(write(tmp_path, runs), "toy")
    text = (tmp_path / "toy/tables/mine.md").read_text()
    assert text.startswith("# Sweep mine") and "2 arms" in text and "2 seeds (0–1)" in text and "threshold" in text


def test_annotators_are_compared_on_the_cells_that_every_seed_has(tmp_path):
    """Bradley–Terry is ahead by 5 points on Harmless in both seeds, and even on Helpful, which has one seed."""
    trained = []
    for data, seed in (("harmless", 0), ("harmless", 1), ("helpful", 0)):
        for name, scoring, lead in (("bt", None, 0.05 * (data == "harmless")), ("dpo", "likelihood", 0.0)):
            arm = {"experiment": "table6", "weak": OPT_SMALL[0], "data": data, "human_fraction": 0.3}
            row = annotator_of(arm | {"annotator": name, "scoring": scoring, "accuracy_human": 0}, seed)
            trained.append(row | {"accuracy_human": 0.6 + lead, "accuracy_gold": 0.7 + lead})
    build_report(write(tmp_path, [], trained), "toy")
    (row,) = pd.read_csv(tmp_path / "toy/tables/table6_differences.csv").to_dict("records")
    assert (row["difference"], row["by_seed"], row["gold_difference"]) == (5, "5.0; 5.0", 5)
    assert (row["seeds"], row["cells"], row["prompts"]) == (2, 1, 2000)


def test_table_20_of_two_prompts_has_no_spread(tmp_path, monkeypatch):
    monkeypatch.setattr("claims_results.PROMPTS", 2)
    monkeypatch.setattr("claims_results.IDS", IDS[:2])
    build_report(write(tmp_path, list(runs_of("table1", OPT_LARGE, (0,), data=("tldr",)))), "toy")
    text = (tmp_path / "toy/tables/table20.md").read_text()
    assert "| TL;DR, DPO | not run | " in text and "| TL;DR, DPO | 50.0 [0.0, 100.0] | " in text


@pytest.mark.parametrize(("column", "values"), [("data_pairs", (500, None)), ("poison_fraction", (0.0, 0.2))])
def test_seeds_of_different_settings_are_different_arms(tmp_path, column, values):
    """Though the axes of all experiments agree; a Human arm, which has neither, adds no axis."""
    runs = list(runs_of("mine", OPT_SMALL, (0, 1), methods=("human",)))
    for seed, value in enumerate(values):
        runs += runs_of("mine", OPT_SMALL, (seed,), (0.6,), ("cw_po",), **{column: (value,)})
    build_report(write(tmp_path, runs), "toy")
    table = pd.read_csv(tmp_path / "toy/tables/mine.csv")
    assert sorted(table["seeds"]) == [1, 1, 2] and table[column].nunique(dropna=False) == 2 + (values[1] is not None)
    assert "label_flip" not in table and "run_key" not in table


def swept(tmp_path, drop):
    """A sweep of two settings of three keys, two seeds; the run `drop` lacks a prompt."""
    runs, arms = [], []
    for arm in grid("mine", (OPT_SMALL,), ("helpful",), ARMS, objective=("dpo", "ipo"), learning_rate=(1e-5, 3e-5)):
        for seed in (0, 1):
            gra = 0.9 if (arm["method"], arm["objective"]) == ("cw_po", "ipo") else 0.6
            run = relative(run_of(arm, seed, gra), drop == (arm["method"], arm["objective"], seed))
            runs.append(run)
            axes = {
                "method": arm["method"],
                "objective": arm["objective"],
                "alignment.learning_rate": arm["learning_rate"],
            }
            arms.append({"run_key": run[0]["run_key"], "seed": seed, "reference": None, **axes})
    return write(tmp_path, runs), pd.DataFrame(arms)


@pytest.mark.parametrize("drop", [None, ("human", "dpo", 0), ("cw_po", "ipo", 1)])
def test_a_sweep_whose_judge_left_a_prompt_out(tmp_path, drop, monkeypatch):
    drawn = {}
    folder, arms = swept(tmp_path, drop)
    monkeypatch.setattr(
        "cwpo.report.figures.axes.points", lambda axis, at, cells, *_, **__: drawn.update({str(axis): cells})
    )
    found = load(folder, "toy", "mine", set(arms["run_key"]))
    rows = found.arms.drop(columns=["seed", "method", "objective"]).merge(arms, on="run_key")
    axis_figures(found, rows, ["method", "objective", "alignment.learning_rate"], tmp_path)
    assert all(len(cell) for cells in drawn.values() for cell in cells)
    written = write_sweep(folder, "toy", "mine", arms, None)
    assert set(pd.read_csv(folder / "toy/mine/mine.csv")["alignment.learning_rate"]) == {1e-5, 3e-5}
    assert len(written.table) == 8


def test_a_search_shows_every_point_at_its_own_place_in_a_colour_of_its_own(tmp_path, monkeypatch):
    """Two keys with 12 values each, as a search over intervals takes them."""
    drawn = []
    monkeypatch.setattr("cwpo.report.figures.axes.points", lambda _, at, *rest, **look: drawn.append((at, look)))
    runs = list(runs_of("mine", OPT_SMALL, (0,), methods=("cw_po",), data_pairs=range(12)))
    found = load(write(tmp_path, runs), "toy")
    values = {name: np.arange(12) / 7 for name in ("objective.beta", "human_fraction")}
    axis_figures(found, found.arms.drop(columns="human_fraction").assign(**values), list(values), tmp_path)
    assert all(abs(at - place) < 0.5 for all_at, _ in drawn for place, at in enumerate(all_at))
    assert len({str(look["color"]) for _, look in drawn}) == 12


def test_settings_count_alike_where_groups_of_equal_prompts_differ_in_size(tmp_path):
    from cwpo.report.figures.axes import _pooled

    runs = [
        relative(run, 5 * (at == 3))
        for at, run in enumerate(runs_of("mine", OPT_SMALL, (0,), (0.2,), ("human",), learning_rate=(1, 2, 3, 4)))
    ]
    means = [run[0]["reward_mean"] for run in runs]
    found = load(write(tmp_path, runs), "toy")
    assert _pooled(found, [found.arms[found.arms["run_key"] == run[0]["run_key"]] for run in runs])[
        "reward"
    ] == pytest.approx(np.mean(means))
