"""Figure 7's distributions, Tables 14/15's responses, Tables 18/19's disputed pairs: as they lie in the store."""

import pandas as pd
import pytest
from conftest import SMOKE

from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand
from cwpo.pipeline.excerpts import annotated
from cwpo.pipeline.record import record
from cwpo.results import CONFIDENCE_COLUMNS, DISAGREEMENT_COLUMNS, SAMPLE_COLUMNS, read_rows
from cwpo.store.store import Store

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("excerpts")
    common = [*SMOKE, f"store={folder}/store", "data=helpful", "data.test_pairs=40"]
    arms = {
        "figure7": expand([*common, "name=figure7", "until=assess", "seed=0,1"]),
        "table1": expand([*common, "name=table1", "method=human,cw_po", "objective=dpo,ipo"]),
    }
    store = Store(folder / "store")
    for name, group in arms.items():
        run_arms(group, Settings.of(group[0].cfg))
        record(group, store, folder / "results", experiment=name, whole=True)
    return folder / "results/toy", arms, store


def test_bins_of_confidence_count_every_unlabeled_pair(recorded):
    folder, arms, store = recorded
    rows = read_rows(folder / "confidences.csv", CONFIDENCE_COLUMNS)
    assert list(rows.groupby("seed")["pairs"].sum()) == [84, 84]
    assert len(rows) == 2 * 20 and rows["low"].min() == 0 and rows["high"].max() == 1
    table = annotated(arms["figure7"][0], store)
    first = rows[rows["seed"] == 0]
    assert first["agree_human"].sum() == (table["label"] == table["human_label"]).sum()
    some = first[first["pairs"] > 0].iloc[0]
    inside = table[(table["confidence"] >= some["low"]) & (table["confidence"] < some["high"])]
    assert len(inside) == some["pairs"]
    says_gold = (inside["gold_a"] > inside["gold_b"]).where(inside["label"] == "a", inside["gold_b"] > inside["gold_a"])
    assert says_gold.sum() == some["agree_gold"]


def test_disputed_pairs_are_disputed(recorded):
    folder, arms, store = recorded
    rows = read_rows(folder / "disagreements.csv", DISAGREEMENT_COLUMNS)
    assert set(rows["band"]) == {"low", "high"} and set(rows["seed"]) == {0} and len(rows) == 6
    table = annotated(arms["figure7"][0], store).set_index("pair_id")
    for row in rows.to_dict("records"):
        pair = table.loc[row["pair_id"]]
        weak, human = pair["label"], pair["human_label"]
        assert weak != human
        for who, label in (("weak", weak), ("human", human)):
            assert row[f"preferred_by_{who}"] == pair[f"response_{label}"]
            assert row[f"gold_{who}"] == pytest.approx(pair[f"gold_{label}"], abs=1e-6)
    means = rows.groupby("band")["confidence"].mean()
    assert means["low"] < means["high"]


def test_samples_are_what_was_said_and_scored(recorded):
    folder, arms, store = recorded
    rows = read_rows(folder / "samples.csv", SAMPLE_COLUMNS)
    assert set(rows["method"]) == {"human", "cw_po"} and len(rows) == 2 * 3  # the dpo arms only
    made = next(made for made in arms["table1"] if made.nodes["evaluate"].key == rows["run_key"].iloc[0])
    said = pd.read_parquet(made.nodes["generate"].folder(store) / "responses.parquet").set_index("prompt_id")
    scored = pd.read_parquet(made.nodes["evaluate"].folder(store) / "rewards.parquet")
    for row in rows[rows["run_key"] == made.nodes["evaluate"].key].to_dict("records"):
        assert said.loc[row["prompt_id"], "response"] == row["response"]
        found = scored[(scored["prompt_id"] == row["prompt_id"])].set_index("model_tag")["reward"]
        assert (row["reward_sft"], row["reward"]) == pytest.approx((found["sft"], found["aligned"]), abs=1e-6)
    assert rows.groupby("prompt_id")["method"].nunique().eq(2).all()  # the same prompts for every arm
