"""Sweeps of one's own: their points, the arms they are compared with, and the table, figures and page that they leave."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from commands.test_entry import script
from conftest import SMOKE
from hydra.types import RunMode
from omegaconf import OmegaConf
from report.test_build import made_up, only, results  # noqa: F401

from cwpo.commands import run
from cwpo.commands import sweep as command
from cwpo.commands.sweep import Finished, points, with_references
from cwpo.errors import InputError
from cwpo.pipeline.arms import distinct, expand
from cwpo.report.figures.axes import _pooled
from cwpo.report.inputs import load
from cwpo.report.sweep import write_sweep
from cwpo.report.tables.cells import outcome
from cwpo.store.store import Store

WEAK = ["world/opt-32x1", "world/qwen2-32x1"]
PAIR = f"pair.weak={','.join(WEAK)}"


def compared(*words):
    return with_references(expand([*words]), words)


def test_hydra_s_own_word_for_a_sweep_is_one(monkeypatch):
    """Otherwise Hydra would run the first arms before it sees that the last one is wrong, and ignore jobs=."""
    ran = []
    monkeypatch.setattr(run, "sweep", lambda words, submit: ran.append(words))
    monkeypatch.setattr(sys, "argv", ["run.py", "seed=0,-1", "hydra.mode=MULTIRUN"])
    run.run(lambda: pytest.fail("Hydra runs it"))
    with pytest.raises(InputError, match="seed=-1 must be at least 0"):
        expand(ran[0], look=False)


def test_an_arm_knows_its_point_and_what_makes_no_difference_to_it():
    arms = expand([PAIR, "method=human,cw_po", "objective.beta=0.1,0.5"])
    assert [arm.point for arm in arms if arm.cfg.method.name == "human"] == [
        {"pair.weak": None, "method": "human", "objective.beta": beta} for beta in (0.1, 0.5)
    ]
    assert len(arms) == 2 + 4 and {arm.point["pair.weak"] for arm in arms[-4:]} <= {*WEAK, None}


def test_an_arm_is_compared_with_the_method_at_its_own_point():
    words = [PAIR, "method=filter", "method.selection.value=0.3,0.5", "human_fraction=0.2,0.3", "seed=0,1"]
    arms, references = compared(*words, "against=human")
    human = {(arm.cfg.human_fraction, arm.cfg.seed): arm.key for arm in arms[16:]}
    assert len(arms) == 16 + 4 and len(human) == 4
    table = points(arms, references)
    assert list(table)[3:] == ["method", "pair.weak", "method.selection.value", "human_fraction"]
    mine = [human[arm.cfg.human_fraction, arm.cfg.seed] for arm in arms[:16]]
    assert list(table["reference"]) == mine + [None] * 4


def test_one_arm_is_compared_on_request_with_one_method():
    (ours, human), references = compared("method=cw_normalized", "against=human")
    assert references == {ours.key: human.key}
    with pytest.raises(InputError, match="against takes one method"):
        compared("against=human,gold")


@pytest.mark.parametrize(
    "word", ["store=a,b", "results=a,b", "name=a,b", "jobs=1,2", "annotator.assessed_on=test,unlabeled"]
)
def test_a_key_that_changes_no_arm_is_not_swept(word):
    """Only the arms of its first value would run, without a word about the others."""
    with pytest.raises(InputError, match=f"^{word} gives the same arms for each value, .*; give one value"):
        compared("method=human,cw_po", "seed=0,1", word)
    assert len(compared("until=assess", "annotator.assessed_on=test,unlabeled")[0]) == 2


def test_a_sweep_that_hydra_runs_tells_of_a_key_that_changes_no_arm(monkeypatch):
    """Its table had the last value alone, without a word about the others."""
    (arm,), shown = expand(["method=human"], look=False), []
    monkeypatch.setattr(run, "_trials", {})
    monkeypatch.setattr(run, "run_arms", lambda *args, **options: 0)
    monkeypatch.setattr(run, "metrics", lambda node, store: {"reward_mean": 0.0})
    monkeypatch.setattr(run, "outcome_line", lambda arm, store: "")
    monkeypatch.setattr(run, "conclude", lambda arms, store: shown.extend(arms))
    monkeypatch.setattr(run.Arm, "of", staticmethod(lambda cfg: arm))

    def main():
        for value in "ab":
            task = OmegaConf.create({"mode": RunMode.MULTIRUN, "overrides": {"task": [f"results={value}"]}})
            monkeypatch.setattr(run.HydraConfig, "get", staticmethod(lambda task=task: task))
            run.run_job(OmegaConf.create())

    monkeypatch.setattr(sys, "argv", ["run.py", "-m", "--config-dir=mine", "results=a,b"])
    with pytest.raises(InputError, match="^results=a,b gives the same arms for each value"):
        run.run(main)
    assert [each.point for each in shown] == [{"results": None}]


def test_a_method_among_the_arms_is_compared_with_as_its_file_has_it():
    arms, references = compared("method=filter,cw_po", "method.selection.value=0.5,0.3", "against=filter")
    (reference,) = {*references.values()}
    assert len(arms) == 3 and {arm.point["method.selection.value"] for arm in arms if arm.key == reference} == {0.3}


def test_a_line_appears_when_the_last_stage_of_an_arm_ends(tmp_path, capsys, monkeypatch):
    arms = expand(["method=human,cw_po"])
    monkeypatch.setattr(command, "outcome_line", lambda arm, store: arm.cfg.method.name)
    finished = Finished(arms, Store(tmp_path))
    for number, node in enumerate(distinct(arms), 1):
        finished(node)
        assert ("human" in capsys.readouterr().out) == (number == len(arms[0].run))
    assert finished.open == []


def made_up_sweep(results, against=None):  # noqa: F811
    """Two methods of weak labels at two shares, and Human, at two seeds: the reward is 1 + share for cw_po, 2 for ws_po."""
    lifts = {("cw_po", 0.2): 1.2, ("cw_po", 0.3): 1.3, ("ws_po", 0.2): 2.0, ("ws_po", 0.3): 2.0, ("human", 0.2): 0.5}
    lifts[("human", 0.3)] = 0.5
    given = {"data": "harmless", "strong": "s"}
    runs = {
        (method, share, seed): made_up("mine", **given, method=method, human_fraction=share, seed=seed, lift=lift)
        for (method, share), lift in lifts.items()
        for seed in (0, 1)
    }
    only(results, *runs.values())
    keys = {of: row["run_key"] for of, (row, _, _) in runs.items()}
    arms = [
        (key, seed, keys["human", share, seed] if method != "human" else None, method, share)
        for (method, share, seed), key in keys.items()
    ]
    frame = pd.DataFrame(arms, columns=["run_key", "seed", "reference", "method", "human_fraction"])
    return write_sweep(results, "toy", "mine", frame, against)


def test_the_table_is_ranked_and_pools_the_seeds(results):  # noqa: F811
    made = made_up_sweep(results, against="human")
    assert list(made.shown["method"]) == ["ws_po", "ws_po", "cw_po", "cw_po", "human", "human"]
    assert list(made.shown["human_fraction"][2:4]) == ["0.3", "0.2"] and set(made.table["seeds"]) == {2}
    assert list(made.shown["minus human"])[::2] == ["1.500 [1.500, 1.500]", "0.800 [0.800, 0.800]", "–"]
    folder = results / "toy/mine"
    assert {path.name for path in made.files} == {
        *("mine.md", "mine.csv", "report.html", "method_by_human_fraction.png")
    }
    assert pd.read_csv(folder / "mine.csv")["reward"].is_monotonic_decreasing
    assert "| rank | gold reward | minus human | method | human_fraction |" in (folder / "mine.md").read_text()


def test_the_page_of_a_sweep_shows_the_sweep_and_no_claims(results):  # noqa: F811
    made_up_sweep(results)
    page = (results / "toy/mine/report.html").read_text()
    assert "<h1>Sweep mine, toy scale</h1>" in page and page.count("<img") == 1
    assert "The paper's claims" not in page and "minus" not in page and 'id="samples"' not in page


def test_settings_that_share_their_prompts_do_not_narrow_an_interval(results):  # noqa: F811
    given = {"data": "harmless", "strong": "s", "lift": 0.5}
    only(results, *(made_up("mine", **given, method=m, seed=s) for m in ("a", "b") for s in (0, 1)))
    found = load(results, "toy")
    frames = [rows for _, rows in found.of("mine").groupby("method")]
    alone, together = outcome(found, [frames[0]]), _pooled(found, frames)
    assert together["prompts"] == alone["prompts"]
    width = [cell["reward_high"] - cell["reward_low"] for cell in (alone, together)]
    assert width[1] == pytest.approx(width[0], rel=0.2) and together["reward"] == pytest.approx(alone["reward"])
    assert _pooled(found, [frames[0], frames[1].head(1)]) == {}


def test_a_sweep_of_one_arm_has_a_table(results):  # noqa: F811
    row = made_up("mine", data="harmless", strong="s", method="cw_po", seed=0)
    only(results, row)
    frame = pd.DataFrame([{"run_key": row[0]["run_key"], "seed": 0, "reference": None}])
    made = write_sweep(results, "toy", "mine", frame, None)
    assert len(made.shown) == 1 and len(made.files) == 3
    assert made.table["reward"][0] == pytest.approx(
        np.mean(load(results, "toy").rewards[f"mine/{row[0]['run_key']}"].reward)
    )


def test_optuna_searches_for_the_best_gold_reward(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["-m", *SMOKE, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "name=search"]
    words.append("human_fraction=interval(0.2,0.5)")
    done = script("run", *words, f"store={tmp_path}/s", f"results={tmp_path}/r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "r/toy/search/search.csv")
    assert len(table) == 2 and table["human_fraction"].between(0.2, 0.5).all()
    best = float(re.search(r"Best value: (\S+)", done.stdout)[1])
    assert table["reward"].max() == pytest.approx(best, abs=1e-4)
