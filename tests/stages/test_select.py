"""Whose labels, on which pairs: fixed pools, mixtures, poison, gold labels, equal error rates, weight controls."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import SMOKE
from omegaconf import OmegaConf

from cwpo.data.splits import assign_splits
from cwpo.errors import InputError
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.models.gold import Judge, Oracle
from cwpo.pipeline.arms import expand
from cwpo.stages.annotate import annotation_table
from cwpo.stages.assess import annotator_metrics
from cwpo.stages.base import Work
from cwpo.stages.mix_labels import poisoned
from cwpo.stages.select import _kept, _labels
from cwpo.store.store import Store
from cwpo.weighting import mean_one

DATA = SimpleNamespace(pairs=None, test_pairs=None, test_fraction=0.1)


def split(human_fraction: float, unlabeled_fraction: float | None) -> dict[str, set]:
    frame = pd.DataFrame({"pair_id": range(110), "test": np.arange(110) >= 100})
    shares = {"human_fraction": human_fraction, "unlabeled_fraction": unlabeled_fraction, "holdout": 0.0}
    pairs, _ = assign_splits(frame, SimpleNamespace(data=DATA, seed=0, **shares), {})
    return {name: set(rows["pair_id"]) for name, rows in pairs.groupby("split")}


def test_a_fixed_unlabeled_pool_is_the_same_for_every_labeled_share():
    few, many = split(0.1, 0.5), split(0.5, 0.5)
    assert few["unlabeled"] == many["unlabeled"] and len(few["unlabeled"]) == 50
    assert few["labeled"] < many["labeled"] and (len(few["labeled"]), len(many["labeled"])) == (10, 50)
    assert not many["labeled"] & many["unlabeled"]
    assert split(0.1, None)["unlabeled"] > few["unlabeled"]


def test_likelihoods_are_ordered_where_their_confidence_is_1():
    """Log-likelihoods of two responses differ by so many nats that C1 rounds to 1."""
    table = annotation_table(-np.array([100.0, 300.0, 200.0, 250.0]), -np.array([140.0, 100.0, 150.0, 100.0]))
    assert set(table["confidence"]) == {1.0}
    kept = _kept(table, SimpleNamespace(kind="top_fraction", value=0.5))
    assert kept.tolist() == [False, True, False, True]
    label, margin = table["label"].to_numpy(), table["margin"].to_numpy()
    metrics = annotator_metrics(label, label, margin, np.array([-1, -1, 1, -1]))  # the largest margin is right
    assert (metrics["accuracy_gold_top30"], metrics["accuracy_gold_bottom30"]) == (1.0, 0.0)


PAIRS = pd.DataFrame({"pair_id": list("vwxyz"), "human_label": ["a", "a", "b", "b", "a"]})
GOLD = pd.DataFrame(
    {"pair_id": list("vwxyz"), "gold_a": [3.0, 0.0, 1.0, 2.0, 1.0], "gold_b": [0.0, 4.0, 1.0, 1.5, 2.0]}
)


def test_poison_takes_the_largest_gaps_and_labels_them_against_gold():
    table = poisoned(PAIRS, GOLD, 3)  # gaps 3, -4, 0, .5, -1
    assert list(table["pair_id"]) == ["w", "v", "z"]
    assert list(table["human_label"]) == ["a", "b", "a"]
    assert list(table.columns) == list(PAIRS.columns)


def test_pairs_without_a_gap_cannot_be_poisoned():
    assert len(poisoned(PAIRS, GOLD, 4)) == 4
    with pytest.raises(InputError, match="wants 5 pairs to poison, but only 4"):
        poisoned(PAIRS, GOLD, 5)


@pytest.fixture
def labels(tmp_path):
    """The labels of a source for PAIRS with these columns, as the stage chooses them."""
    GOLD.to_parquet(tmp_path / "gold.parquet")

    def choose(source: str, seed: int = 0, **columns) -> np.ndarray:
        config = OmegaConf.create({"method": {"labels": source}, "seed": seed})
        work = Work(tmp_path, config, {"score_gold": tmp_path}, tracker=None)
        return _labels(work, PAIRS.assign(**columns)).to_numpy()

    return choose


def test_gold_labels_follow_the_gap_and_ties_are_drawn(labels):
    drawn = [labels("gold", seed) for seed in range(20)]
    for label in drawn:
        assert list(label[[0, 1, 3, 4]]) == ["a", "b", "a", "b"]
    assert {label[2] for label in drawn} == {"a", "b"}


def test_flips_have_as_many_errors_as_the_weak_model(labels):
    # gold says a b - a b; the weak model is wrong on v and z only
    weak = ["b", "b", "a", "a", "a"]
    right = np.array(["a", "b", "?", "a", "b"])
    decided = [0, 1, 3, 4]
    places = set()
    for seed in range(30):
        label = labels("flips", seed, label=weak)
        wrong = [i for i in decided if label[i] != right[i]]
        assert len(wrong) == 2
        places |= set(wrong)
    assert places == set(decided)


def test_mean_one_by_hand():
    assert mean_one([0.5, 0.5, 2.0]).tolist() == [0.5, 0.5, 2.0]
    assert mean_one([0.1, 0.3]).tolist() == pytest.approx([0.5, 1.5])
    with pytest.raises(ValueError, match="sum to 0"):
        mean_one([0.0, 0.0])


def test_a_judge_prefers_with_the_probability_of_its_people():
    from cwpo.data.toy import sample_pairs

    pairs = sample_pairs("helpful", 4000, seed=3)
    gaps, verdicts = (
        gold.rewards(pairs["prompt"], pairs["response_a"]) - gold.rewards(pairs["prompt"], pairs["response_b"])
        for gold in (Oracle(), Judge(0.8))
    )
    expected = 1 / (1 + np.exp(-gaps / 0.8))
    error = np.sqrt((expected * (1 - expected)).sum()) / len(pairs)
    assert abs((verdicts > 0).mean() - expected.mean()) < 4 * error
    far = np.abs(gaps) > 3
    assert ((verdicts > 0) == (gaps > 0))[far].mean() > 0.95
    assert (
        Judge(0.8).rewards(pairs["prompt"], pairs["response_a"])
        - Judge(0.8).rewards(pairs["prompt"], pairs["response_a"])
        == 0
    ).all()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def finished(store, *overrides: str, until: str = "weight"):
    (made,) = expand([*SMOKE, f"store={store}", *overrides, f"until={until}"])
    run_arms([made], Settings.of(made.cfg))
    return made


def read(made, store, stage: str, file: str) -> pd.DataFrame:
    return pd.read_parquet(made.nodes[stage].folder(Store(store)) / file)


def test_a_mixture_has_the_shares_asked_for(store):
    made = finished(store, "labeled.other=helpful", "labeled.own_share=0.25", until="assess")
    labeled = read(made, store, "mix_labels", "labeled.parquet")
    assert labeled["domain"].value_counts().to_dict() == {"helpful": 27, "harmless": 9}
    own = read(made, store, "prepare", "pairs.parquet")
    assert set(labeled[labeled["domain"] == "harmless"]["pair_id"]) < set(own[own["split"] == "labeled"]["pair_id"])
    assert made.nodes["train_annotator"].parents["labels"] is made.nodes["mix_labels"]
    import json

    metrics = json.loads((made.nodes["assess"].folder(Store(store)) / "metrics.json").read_text())
    assert metrics["n_train"] == 36


def test_poison_is_added_to_the_other_set_and_contradicts_gold(store):
    made = finished(
        store, "labeled.other=helpful", "labeled.own_share=0", "labeled.poison_fraction=0.25", until="assess"
    )
    labeled = read(made, store, "mix_labels", "labeled.parquet")
    assert labeled["domain"].value_counts().to_dict() == {"helpful": 36, "harmless": 9}
    poison = labeled[labeled["domain"] == "harmless"].merge(
        read(made, store, "score_gold", "gold.parquet"), on="pair_id"
    )
    assert ((poison["gold_a"] > poison["gold_b"]) == (poison["human_label"] == "b")).all()


def test_weight_controls(store):
    plain, placebo, normal = (
        read(finished(store, f"method={name}"), store, "weight", "preferences.parquet")
        for name in ("cw_po", "cw_permuted", "cw_normalized")
    )
    assert sorted(plain["weight"]) == sorted(placebo["weight"])
    assert (plain["weight"] != placebo["weight"]).mean() > 0.9
    assert normal["weight"].mean() == pytest.approx(1)
    assert np.ptp(normal["weight"] / plain["weight"]) == pytest.approx(0, abs=1e-6)


def test_gold_and_flipped_labels_run_through_the_stages(store):
    gold = finished(store, "method=gold")
    assert "train_annotator" not in gold.nodes
    flips = finished(store, "method=flips")
    weak = finished(store, "method=ws_bt")
    rewards = read(weak, store, "score_gold", "gold.parquet").set_index("pair_id")
    pairs = read(weak, store, "prepare", "pairs.parquet").set_index("pair_id")

    def errors(made) -> int:
        table = read(made, store, "select", "selected.parquet").set_index("pair_id")
        gap = (rewards["gold_a"] - rewards["gold_b"]).loc[table.index]
        says_a = table["chosen"] == pairs["response_a"].loc[table.index]
        return int((says_a != (gap > 0))[gap != 0].sum())

    assert errors(gold) == 0
    assert errors(flips) == errors(weak) > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["labeled.other=helpfull"], "did you mean helpful?"),
        (["labeled.own_share=0.5"], "name it with labeled.other="),
        (["labeled.unlabeled=both"], "labeled.unlabeled=both takes pairs of another data set"),
        (["labeled.own_share=1.5", "labeled.other=helpful"], r"labeled.own_share=1.5 must be in \[0, 1\]"),
        (["labeled.poison_fraction=1"], r"must be in \[0, 1\)"),
        (["labeled.poison_fraction=0.1"], "and labeled.own_share=1.0 are more than 1 together"),
        (["data.label_flip=0.5"], r"data.label_flip=0.5 must be in \[0, 0.5\)"),
        (["method=gold", "weighting=c1"], "method=gold uses gold labels"),
        (["method=ws_bt", "method.equal_steps=true"], "use method.selection.kind=top_fraction, not all"),
        (["method.sft_labels=mine"], "method.sft_labels=mine is unknown"),
        (["gold=judge", "gold.temperature=0"], "gold.temperature=0.0 must be positive"),
        (
            ["human_fraction=0.6", "unlabeled_fraction=0.5"],
            "human_fraction=0.6 and unlabeled_fraction=0.5 are 1.1 together",
        ),
    ],
)
def test_nonsense_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        expand(overrides)
