"""Online arms from the store's end: files, rows, bytes, and nothing left behind by an interruption."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMOKE

from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.models.gold import Trained
from cwpo.pipeline.arms import Arm, expand
from cwpo.pipeline.record import record
from cwpo.results import DETAIL_COLUMNS, EMBEDDING_COLUMNS, RUN_COLUMNS, read_rows
from cwpo.store.store import Store
from cwpo.training.online import OnlineTrainer

pytestmark = pytest.mark.soak

SMALL = [*SMOKE, "data=tldr", "alignment.epochs=2", "alignment.batch_size=32", "online.batches_per_round=2"]


def arms(store: Path, *overrides: str) -> list[Arm]:
    return expand([*SMALL, f"store={store}", *overrides])


def run(made: list[Arm]) -> None:
    run_arms(made, Settings.of(made[0].cfg))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def finished(store) -> dict[str, Arm]:
    made = arms(store, "method=online_cw_po,online_rm")
    run(made)
    return {one.cfg.method.name: one for one in made}


def file(made: Arm, store: Path, node: str, name: str) -> Path:
    return made.nodes[node].folder(Store(store)) / name


def summary(made: Arm, store: Path, node: str) -> dict:
    return Store(store).manifest(made.nodes[node].stage.name, made.nodes[node].key)["summary"]


def test_responses_are_judged_by_the_arms_reward(finished, store):
    for method, node in (("online_cw_po", "train_annotator"), ("online_rm", "train_reward")):
        made = finished[method]
        table = pd.read_parquet(file(made, store, "online_align", "responses.parquet"))
        judge = Trained(file(made, store, node, "model"), batch_size=8, device="cpu")
        for side in "ab":
            scores = judge.rewards(table["prompt"].tolist(), table[f"response_{side}"].tolist())
            assert np.allclose(scores, table[f"score_{side}"], atol=1e-5)
        gap = (table["score_a"] - table["score_b"]).abs().where(table["dropped"] == "", 0)
        expected = np.tanh(gap / 2) if method == "online_cw_po" else (gap > 0).astype(float)
        assert np.allclose(table["weight"], expected)


def test_prompts_are_those_of_the_unlabeled_pairs_once_an_epoch(finished, store):
    made = finished["online_cw_po"]
    pairs = pd.read_parquet(file(made, store, "prepare", "pairs.parquet"))
    table = pd.read_parquet(file(made, store, "online_align", "responses.parquet"))
    unlabeled = pairs.loc[pairs["split"] == "unlabeled", "pair_id"]
    assert sorted(table["prompt_id"]) == sorted([*unlabeled, *unlabeled])
    # 84 prompts in batches of 32: 3 steps an epoch, as offline, in rounds of 2 and 1 steps
    assert table.groupby("round").size().tolist() == [64, 20, 64, 20]
    log = (file(made, store, "online_align", "metrics.jsonl")).read_text().splitlines()
    assert json.loads(log[-1])["step"] == 6
    assert json.loads(log[0])["rewards/margins"] == pytest.approx(0, abs=1e-5)
    found = summary(made, store, "online_align")
    assert found["sampled"] == 168 and found["rounds"] == 4
    assert found["n_train"] == (table["dropped"] == "").sum()


def test_the_reward_model_learns_from_pairs_that_no_arm_sees(finished, store):
    made = finished["online_rm"]
    own, other = (
        set(pd.read_parquet(file(made, store, node, "pairs.parquet"))["pair_id"])
        for node in ("prepare", "prepare_reward")
    )
    assert not own & other
    assert summary(made, store, "train_reward")["n_train"] == 108  # 90 % of 120


def test_rows_of_the_result_tables(finished, store, tmp_path):
    record(list(finished.values()), Store(store), tmp_path, experiment="table21", whole=True)
    runs = read_rows(tmp_path / "toy/runs.csv", RUN_COLUMNS).set_index("method")
    details = read_rows(tmp_path / "toy/details.csv", DETAIL_COLUMNS).set_index("run_key")
    for method, made in finished.items():
        row = runs.loc[method]
        trained = summary(made, store, "online_align")
        assert (row["annotator"], row["keep_fraction"]) == ("bt", 1)
        assert row["weighting"] == ("c1" if method == "online_cw_po" else "uniform")
        assert (row["n_train"], row["train_seconds"]) == (trained["n_train"], trained["train_seconds"])
        assert 0 < row["annotator_accuracy_gold"] <= 1 and 0 <= row["label_accuracy_gold"] <= 1
        detail = details.loc[row["run_key"]]
        assert -1 <= detail["margin_agreement"] <= 1 and pd.isna(detail["human_gold_agreement"])
    weight = details.loc[runs.loc["online_rm", "run_key"], "mean_weight"]
    assert weight == 1 > details.loc[runs.loc["online_cw_po", "run_key"], "mean_weight"]


def test_figure6_has_a_point_per_response(finished, store, tmp_path):
    made = arms(store, "method=online_cw_po,online_rm", "until=embed", "name=figure6")
    run(made)
    record(made, Store(store), tmp_path, experiment="figure6", whole=True)
    rows = read_rows(tmp_path / "toy/embeddings.csv", EMBEDDING_COLUMNS)
    assert rows.groupby("source").size().to_dict() == {
        "labeled": 36,
        "offline": 84,
        "online_cw_po": 84,  # 168 responses to 84 prompts: the later one of each
        "online_rm": 84,
    }
    labeled = rows[rows["source"] == "labeled"]
    assert labeled[["x", "y"]].mean().tolist() == pytest.approx([0, 0], abs=1e-5)
    assert labeled["x"].std() >= labeled["y"].std()
    shift = json.loads(file(made[0], store, "embed", "metrics.json").read_text())
    assert shift["shift_offline"] > 0 and shift["shift_online"] > 0
    record(made[1:], Store(store), tmp_path, experiment="figure6", whole=False)
    pd.testing.assert_frame_equal(read_rows(tmp_path / "toy/embeddings.csv", EMBEDDING_COLUMNS), rows)


def test_an_interrupted_run_leaves_nothing_and_goes_on_to_the_same_bytes(finished, store, tmp_path, monkeypatch):
    (made,) = arms(tmp_path, "method=online_cw_po", "until=online_align")
    with monkeypatch.context() as patched:
        whole = OnlineTrainer._round

        def stopped(self, batches):
            if self.pairs:
                raise KeyboardInterrupt
            return whole(self, batches)

        patched.setattr(OnlineTrainer, "_round", stopped)
        with pytest.raises(KeyboardInterrupt):
            run([made])
    assert not made.nodes["online_align"].done(Store(tmp_path))
    assert not list((tmp_path / ".partial").iterdir())
    run([made])
    files = [
        {
            name: entry["sha256"]
            for name, entry in Store(folder).manifest("online_align", one.nodes["online_align"].key)["files"].items()
            if name.endswith((".safetensors", ".parquet"))
        }
        for folder, one in ((store, finished["online_cw_po"]), (tmp_path, made))
    ]
    assert files[0] == files[1] and len(files[0]) == 2
