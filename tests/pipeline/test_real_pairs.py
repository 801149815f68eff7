"""Real preference pairs, two really pretrained models of different families: the whole chain, shortened."""

import pandas as pd
import pytest

from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand
from cwpo.pipeline.record import record
from cwpo.results import RUN_COLUMNS, read_rows
from cwpo.store.store import Store


@pytest.fixture(scope="module")
def arms(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    files = ",".join(
        str(shared / f"data/hh-rlhf/{name}-base/test.jsonl.gz") for name in ("harmless", "helpful")
    )
    arms = expand(
        [
            "data=jsonl",
            f"data.path=[{files}]",
            f"pair.weak={shared / 'models/aidreams260k'}",
            f"pair.strong={shared / 'models/stories260k'}",
            "gold=trained",
            "method=human,ws_bt,cw_po,filter",
            "data.max_tokens=100",
            "data.pairs=60",
            "data.test_pairs=12",
            "generation.max_new_tokens=12",
            "annotator.training.epochs=1",
            "gold.training.epochs=1",
            "alignment.epochs=1",
            "name=real",
            f"store={folder / 'store'}",
        ]
    )
    run_arms(arms, Settings.of(arms[0].cfg))
    record(arms, Store(folder / "store"), folder / "results", experiment="real", whole=True)
    return folder, arms


def test_four_arms_run_to_rows(arms):
    folder, _ = arms
    rows = read_rows(folder / "results/toy/runs.csv", RUN_COLUMNS)
    assert sorted(rows["method"]) == ["cw_po", "filter", "human", "ws_bt"]
    assert rows["gra"].between(0, 1).all() and (rows["n_eval"] >= 12).all()
    assert rows.set_index("method")["n_train"].to_dict() == {
        "human": 31,
        "ws_bt": 31,
        "cw_po": 31,
        "filter": 9,
    }


def test_every_row_read_is_kept_or_counted(arms):
    folder, made = arms
    summary = Store(folder / "store").manifest("prepare", made[0].nodes["prepare"].key)["summary"]
    drops = dict(summary["drops"])
    assert drops.pop("read") == 2312 + 2354
    assert drops["prompts_differ"] == 5 + 9
    assert drops["empty_response"] == 8
    assert sum(drops.values()) + sum(summary["pairs"].values()) == 2312 + 2354


def test_longest_pair_fits_the_smaller_context(arms):
    folder, made = arms
    pairs = pd.read_parquet(made[0].nodes["prepare"].folder(Store(folder / "store")) / "pairs.parquet")
    assert pairs["n_tokens"].max() <= 100
    assert set(pairs["domain"]) == {"harmless-base", "helpful-base"}
