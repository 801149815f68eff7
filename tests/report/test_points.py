"""Operating points: how tuning chooses them, what the frontier reads off, what calibration accepts, and two grids on a page."""

import pandas as pd
import pytest
from claims_results import OPT_SMALL, QWEN_MID, grid, run_of, write

from cwpo.report.inputs import load
from cwpo.report.tables.annotators import human_arms
from cwpo.report.tables.frontier import at_humans_kl, frontier, frontier_cells, gains_at_humans_kl, mean_gain
from cwpo.report.tables.render import WS_NOTE, pages
from cwpo.report.tables.table1 import TABLE1
from cwpo.report.tables.tuning import human_target, tuning, tuning_cells

RATES = (1e-5, 1e-4, 1e-3, 1e-2)


def swept(experiment, gra, method, pair=OPT_SMALL, rates=RATES, points=(None,) * 4, objective="dpo", **details):
    """One run per rate and seed, which wins on the share of prompts in `gra`; details by rate."""
    for at, rate in enumerate(rates):
        (arm,) = grid(experiment, (pair,), ("helpful",), (method,), learning_rate=(rate,), point=(points[at],))
        arm["objective"] = objective
        for seed in (1000, 1001):
            yield run_of(arm, seed, gra[at], **{name: values[at] for name, values in details.items()})


def test_human_alone_gives_the_matched_rate_on_the_rising_side(tmp_path):
    """The paper's mean is 62.7: .64 is nearer than .58, and so is .62 beyond the best rate, where Human is over-optimised."""
    runs = [
        *swept("tuning", (0.58, 0.64, 0.70, 0.62), "human"),
        *swept("tuning", (0.50, 0.52, 0.54, 0.66), "cw_po"),
        *swept("tuning", (0.60, 0.55, 0.50, 0.45), "human", QWEN_MID),
    ]
    found = load(write(tmp_path, runs), "toy")
    assert human_target(found) == pytest.approx(62.66, abs=0.005)
    cells = tuning_cells(found)
    matched = cells[cells["matched"]].groupby("family")["learning_rate"].unique()
    assert matched["opt"].tolist() == [1e-4] and matched["qwen"].tolist() == [1e-5]
    best = cells[cells["own_best"]].set_index(["family", "method"])["learning_rate"]
    assert best.to_dict() == {("opt", "human"): 1e-3, ("opt", "cw_po"): 1e-2, ("qwen", "human"): 1e-5}
    (page,) = tuning(found)
    assert "| DPO, OPT | 0.0001 | 0.001 | 0.01 (end of the grid) |" in page.text
    assert "| DPO, Qwen | 1e-05 (end of the grid) | 1e-05 (end of the grid) | not run |" in page.text
    assert "| 0.0001 (matched) | 64.0" in page.text


def test_of_two_rates_with_one_reward_the_smaller_is_the_best_and_human_may_be_missing(tmp_path):
    runs = swept("headline_tuning", (0.6, 0.7, 0.7, 0.5), "cw_po")
    found = load(write(tmp_path, list(runs)), "toy")
    (page,) = tuning(found)
    assert "| DPO, OPT | not run | 0.0001 |" in page.text and "| 0.001 | not run | not run | 1.40 [" in page.text
    assert human_arms(found) is None


def test_each_objective_has_its_own_best_rate_but_not_its_own_matched_one(tmp_path):
    runs = [
        *swept("tuning", (0.58, 0.64, 0.70, 0.60), "human", truncated_share=(0.0, 0.0, 0.01, 0.02)),
        *swept(
            "tuning_objectives", (0.51, 0.62, 0.60, 0.55), "human", objective="rdpo", truncated_share=(0, 0, 0.04, 0.5)
        ),
    ]
    found = load(write(tmp_path, runs), "toy")
    for objective, best in (("dpo", 1e-3), ("rdpo", 1e-4)):
        cells = tuning_cells(found, objective)
        assert cells[cells["own_best"]]["learning_rate"].tolist() == [best]
        assert cells[cells["matched"]]["learning_rate"].tolist() == [1e-4]
    assert tuning_cells(found, "ipo").empty
    with_dpo, with_others = tuning(found)
    assert "| DPO, OPT | 0.0001 | 0.001 |" in with_dpo.text and "rDPO" not in with_dpo.text
    assert (
        "| rDPO, OPT | 0.0001 | 0.0001 |" in with_others.text and "DPO, OPT | 0.0001 | 0.001 |" not in with_others.text
    )
    assert "| 0.001 | 60.0 [" in with_others.text and "| 4.0 |" in with_others.text


def test_further_tunings_add_their_families_and_methods(tmp_path):
    runs = [
        *swept("tuning", (0.62, 0.64, 0.70, 0.60), "human", QWEN_MID),
        *swept("tuning_llama", (0.58, 0.61, 0.66, 0.50), "human", (QWEN_MID[0], "world/llama-128x4")),
        *swept("tuning_online", (0.50, 0.55, 0.53, 0.51), "online_rm", QWEN_MID),
    ]
    found = load(write(tmp_path, runs), "toy")
    cells = tuning_cells(found)
    best = cells[cells["own_best"]].set_index(["family", "method"])["learning_rate"]
    assert best.to_dict() == {("llama", "human"): 1e-3, ("qwen", "human"): 1e-3, ("qwen", "online_rm"): 1e-4}
    matched = cells[cells["matched"]].groupby("family")["learning_rate"].unique()
    assert matched["llama"].tolist() == [1e-4] and matched["qwen"].tolist() == [1e-5]
    (page,) = tuning(found)
    assert "| DPO, Llama | 0.0001 | 0.001 | not run |" in page.text and "; 24 runs;" in page.text
    assert human_arms(found).frame["family"].tolist() == ["llama", "qwen"]


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, "yes"),
        ({"truncated_share": (0.0, 0.05, 0.0, 0.0)}, "no"),  # at the matched rate
        ({"truncated_share": (0.5, 0.0, 0.0, 0.5)}, "yes"),  # at rates that nobody uses
        ({"truncated_share_sft": (0.03,) * 4}, "no"),
        ({"train_accuracy": (0.9, 0.9, 0.77, 0.9)}, "no"),  # .77 - .73 at the own-best rate
    ],
)
def test_calibration_accepts_the_human_arm(tmp_path, change, holds):
    found = load(write(tmp_path, list(swept("tuning", (0.58, 0.64, 0.70, 0.62), "human", **change))), "toy")
    page = human_arms(found)
    assert page.frame["holds"].tolist() == [holds]
    assert page.frame[["gra_matched", "gra_own_best"]].to_numpy().tolist() == [[64, 70]]


def test_a_kl_measured_below_zero_counts_as_zero():
    cells = pd.DataFrame(
        {"method": "human", "point": ["", "matched"], "kl": [-0.1, 1.0], "reward": [0.2, 1.0], "reward_sft": 0.1}
    )
    ours = cells.assign(method="cw_po", point="", kl=[-0.3, 4.0], reward=[0.4, 0.8])
    assert at_humans_kl(pd.concat([cells, ours]), "matched") == {"human": 1.0, "cw_po": pytest.approx(0.6)}


def test_the_frontier_reads_rewards_at_humans_matched_kl(tmp_path):
    """Lines are straight in the root of KL. Human's matched point has KL 2.25, root 1.5. CW-PO has .2 at root 1 and .4 at 2,
    so .3; WS-DPO 0 at root 0 and .2 at 1.875, so .16."""
    points = (None, "matched", None, "own_best")
    runs = [
        *swept("frontier", (0.50, 0.55, 0.60, 0.6), "human", kl=(1, 2.25, 3, 5), level=(0,) * 4, points=points),
        *swept("frontier", (0.60, 0.70, 0.75, 0.8), "cw_po", kl=(1, 4, 4.4, 4.5), level=(0,) * 4),
        *swept("frontier", (0.60, 0.70, 0.75, 0.8), "ws_dpo", kl=(3.515625, 4, 6, 7), level=(0,) * 4),
    ]
    found = load(write(tmp_path, runs), "toy")
    cells = frontier_cells(found)
    at_kl = {"human": pytest.approx(0.1), "cw_po": pytest.approx(0.3), "ws_dpo": pytest.approx(0.16)}
    assert at_humans_kl(cells, "matched") == at_kl
    assert set(at_humans_kl(cells, "own_best")) == {"human", "ws_dpo"}  # KL 5: the grid of CW-PO ends at 4.5
    human = cells[(cells["method"] == "human") & (cells["learning_rate"] == 1e-4)].iloc[0]
    assert (
        human["kl"] == pytest.approx(2.25) and human["kl_low"] < 2.25 < human["kl_high"] and human["point"] == "matched"
    )
    (page,) = frontier(found)
    assert "Helpful, matched | 0.10 | 0.16 | 0.30 |" in page.text
    assert gains_at_humans_kl(found, "matched") == pytest.approx([0.2, 0.2])
    assert gains_at_humans_kl(found, "own_best") == []  # no line of CW-PO reaches this KL
    assert "seeds: at that of Human's matched point +0.20 [0.20, 0.20] (2 seeds)." in page.text
    other = [
        run
        for run in swept("frontier", (0.5,) * 4, "human", QWEN_MID, kl=(1,) * 4, points=points)
        if run[0]["seed"] == 1000
    ]
    more = load(write(tmp_path / "more", [*runs, *other]), "toy")
    assert gains_at_humans_kl(more, "matched") == []  # seed 1000 lacks CW-PO in a panel, 1001 the panel


def test_the_mean_gain_of_one_seed_has_no_interval():
    assert mean_gain([-0.25]) == "-0.25" and mean_gain([0.0, 2.0]) == "+1.00 [-11.71, 13.71]"


def test_a_table_has_a_grid_for_each_point_that_ran(made_up_loaded):
    found = {page.name: page for page in pages(TABLE1, made_up_loaded)}
    assert set(found) == {f"table1{point}{end}" for point in ("", "_own_best") for end in ("", "_differences")}
    text = found["table1"].text
    assert text.count("## At the matched update size") == text.count("## At each arm's own best update size") == 1
    assert text.count(WS_NOTE) == 1 and found["table1_own_best"].text is None
    frames = [
        found[name].frame.set_index(["section", "row", "column"])["gra"] for name in ("table1", "table1_own_best")
    ]
    gain = (frames[1] - frames[0]).groupby("column").mean()
    assert gain["Human"] == 0 and gain["CW-PO"] == pytest.approx(2, abs=1)  # Human's runs lie at both points


def test_a_scale_without_points_has_one_grid(tmp_path):
    runs = [run_of(arm, 0, 0.6) for arm in grid("table1", (OPT_SMALL,), ("tldr",), ("human", "cw_po"))]
    found = pages(TABLE1, load(write(tmp_path, runs), "toy"))
    assert [page.name for page in found] == ["table1", "table1_differences"]
    assert "update size" not in found[0].text and isinstance(found[0].frame, pd.DataFrame)
