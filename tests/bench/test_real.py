"""The measurement on real pairs: sources, splits, the bag of words, and the tables and page of results/own."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPO
from own.test_annotate import composed
from scipy.special import expit

from cwpo.bench.real import FOLDS, split
from cwpo.bench.real_numbers import LONGER, ONE_VOTE, alignment_rows, annotator_rows, defaults_rows, seed_rows
from cwpo.bench.real_pairs import SOURCES, check_sources, cut, load_source, one_vote
from cwpo.bench.real_report import write_report
from cwpo.bench.words import WordAnnotator
from cwpo.commands.checks import check_command
from cwpo.errors import InputError

pytestmark = pytest.mark.soak


# --- the bag of words --------------------------------------------------------------------------------------------


def word_pairs(n: int, seed: int) -> pd.DataFrame:
    """`a` wins with probability sigmoid(2 x (its count of good - b's)), other words say nothing."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (n, 2))
    noise = [" ".join(rng.choice(["sun", "moon", "sea"], 5)) for _ in range(2 * n)]
    texts = [
        [" ".join(["good"] * c) + " " + noise[2 * i + side] for side, c in enumerate(row)]
        for i, row in enumerate(counts)
    ]
    target = (rng.random(n) < expit(2 * (counts[:, 0] - counts[:, 1]))).astype(float)
    return pd.DataFrame(texts, columns=["response_a", "response_b"]).assign(target=target)


def test_words_that_decide_are_found():
    annotator = WordAnnotator(word_pairs(600, 0), seed=0)
    weights = dict(zip(annotator.index, annotator.weights, strict=True))
    assert weights["good"] > 5 * max(abs(weights[w]) for w in ("sun", "moon", "sea"))
    test = word_pairs(300, 1)
    gap = annotator.gaps(test)[0]
    assert ((gap > 0) == (test["target"] > 0.5)).mean() > 0.75
    swapped = test.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    assert annotator.gaps(swapped)[0] == pytest.approx(-gap)


def test_words_never_seen_say_nothing():
    annotator = WordAnnotator(word_pairs(100, 0), seed=0)
    assert annotator.gaps(pd.DataFrame({"response_a": ["unheard of"], "response_b": [""]}))[0].tolist() == [0.0]


# --- real pairs --------------------------------------------------------------------------------------------------


def test_ukp_as_it_is_measured(shared):
    pairs = load_source("ukp", shared / "data")
    assert pairs["group"].nunique() == 10 and pairs["group"].str.startswith("Debate: ").all()
    assert pairs["prompt"].str.fullmatch(r"Debate: .+\nPosition: .+").all()
    assert (
        pairs["n_votes"].isin([4, 5]).all()
        and (pairs["n_votes"] == 5).mean() > 0.98
        and pairs["share"].between(0, 1).all()
    )
    decided = pairs[pairs["gold"] != 0.5]
    longer = (decided["response_a"].str.len() > decided["response_b"].str.len()) == (decided["gold"] > 0.5)
    assert longer.mean() == pytest.approx(0.74, abs=0.01)
    vote = one_vote(decided, 0)
    assert ((vote == 1) == (decided["gold"] == 1))[vote != 0.5].mean() == pytest.approx(0.835, abs=0.03)
    assert (one_vote(decided, 0) == vote).all() and (one_vote(decided, 1) != vote).any()
    tested = []
    for seed in range(FOLDS):
        train, test = split(pairs, seed)
        assert not set(train["group"]) & set(test["group"]) and len(train) + len(test) == len(pairs)
        tested += sorted(set(test["group"]))
    assert sorted(tested) == sorted(set(pairs["group"]))  # every debate once


@pytest.mark.parametrize(("name", "longer"), [("pandalm", 0.66), ("harmless", 0.45)])
def test_other_sources(shared, name, longer):
    pairs = load_source(name, shared / "data")
    decided = pairs[pairs["gold"] != 0.5]
    right = (decided["response_a"].str.len() > decided["response_b"].str.len()) == (decided["gold"] > 0.5)
    assert right.mean() == pytest.approx(longer, abs=0.02)
    assert (pairs["group"] == pairs["prompt"]).all() and pairs["pair_id"].is_unique


def test_texts_are_cut_to_the_context(tiny_checkpoint):
    pairs = pd.DataFrame(
        {"prompt": ["abc" * 100, "short"], "response_a": ["xyz" * 100, "r"], "response_b": ["q", "é" * 200]}
    )
    shown = cut(pairs, str(tiny_checkpoint))  # a byte a token, 128 of them
    assert shown["response_a"].tolist() == ["xyz" * 20 + "xy", "r"] and shown["response_b"][0] == "q"
    assert shown["prompt"].tolist() == [("abc" * 100)[-62:], "short"]
    assert shown["response_b"][1] == "é" * 31


def test_what_is_missing_is_said_at_once(tmp_path):
    (line,) = check_sources(tmp_path, ["ukp"])
    assert line == f"data={tmp_path} lacks {tmp_path / SOURCES['ukp'].file}"
    with pytest.raises(InputError) as error:
        check_command(composed("own_results", "sources=[upk]", "strong=gpt"), "own_results")
    assert error.value.problems == [
        "sources.0=upk is unknown; did you mean ukp? valid: ukp, harmless, helpful, pandalm",
        "strong=gpt is not in models; valid: stories260k, aidreams260k",
    ]


# --- tables ------------------------------------------------------------------------------------------------------


def measured_pairs(n=300) -> pd.DataFrame:
    """Two annotators on a data set with votes; b is a's noisy copy."""
    parts = []
    for seed in range(FOLDS):
        rng = np.random.default_rng(seed)
        logit = rng.normal(0, 2, n)
        votes = (rng.random((n, 5)) < expit(logit)[:, None]).mean(axis=1)
        length = rng.integers(1, 200, (n, 2))
        base = {
            "pair_id": [f"{seed}-{i}" for i in range(n)],
            "group": [f"{seed}-{i // 10}" for i in range(n)],
            "gold": (votes > 0.5).astype(float),
            "share": votes,
            "n_votes": 5,
            "vote": (rng.random(n) < expit(logit)).astype(float),
            "length_a": length[:, 0],
            "length_b": length[:, 1],
            "n_train": 100 + seed,
            "data": "ukp",
            "seed": seed,
        }
        for name, noise in (("a", 0.5), ("b", 4.0)):
            parts.append(pd.DataFrame(base | {"annotator": name, "gap": logit + rng.normal(0, noise, n)}))
    return pd.concat(parts)


def test_a_row_for_every_annotator_and_baseline():
    tested = measured_pairs()
    rows, curves = annotator_rows(tested)
    rows = rows.set_index("annotator")
    assert list(rows.index) == ["a", "b", LONGER, ONE_VOTE]
    a = tested[tested["annotator"] == "a"]
    assert rows.loc["a", "accuracy"] == pytest.approx(((a["gap"] > 0) == (a["gold"] > 0.5)).mean())
    assert rows.loc["a", "accuracy"] > rows.loc["b", "accuracy"] > rows.loc[LONGER, "accuracy"]
    assert rows.loc["a", "accuracy_top30"] > rows.loc["a", "accuracy"]
    assert rows.loc["a", "minus_longer_low"] > 0 and rows.loc["a", "advice"] == "weights"
    assert rows.loc[LONGER, "advice"] == "do_not_use"
    assert rows.loc["a", "vote_correlation_low"] > 0.3 > rows.loc[LONGER, "vote_correlation_high"]
    assert rows.loc[ONE_VOTE, "accuracy"] == pytest.approx((a["vote"] == a["gold"]).mean())
    assert rows.loc["b", "temperature"] > rows.loc["a", "temperature"] and rows.loc["b", "log_loss_change_high"] < 0
    assert set(curves["by"]) == {"confidence", "length gap"} and len(curves) == 10 * 5
    seeds = seed_rows(tested)
    assert len(seeds) == 6 and seeds["n_test"].eq(300).all()
    assert seeds.groupby("annotator")["accuracy"].mean()["a"] == pytest.approx(rows.loc["a", "accuracy"])


def test_a_gain_is_that_on_the_same_pairs_whatever_their_order():
    """It was computed between pairs of different seeds where each side lacked another one."""
    sides = measured_pairs(60).replace({"annotator": {"b": "before", "a": "after"}})
    gain = defaults_rows(sides)["after_minus_before"].dropna().tolist()
    assert defaults_rows(sides.sample(frac=1, random_state=0))["after_minus_before"].dropna().tolist() == pytest.approx(
        gain
    )
    missing = ((sides["annotator"] == "before") & (sides["seed"] == 2)) | (
        (sides["annotator"] == "after") & (sides["seed"] == 1)
    )
    assert "after_minus_before" not in defaults_rows(sides[~missing])


def aligned_pairs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for arm, gain in (("human", 0.0), ("ws_bt", 0.5), ("cw_po", 1.0)):
        before = np.random.default_rng(1).normal(0, 1, 400)
        facts = {"arm": arm, "seed": 0, "n_labeled": 5, "n_train": 7, "labels_right": 0.7, "mean_weight": 1.0}
        after = before + rng.normal(gain, 1, 400)
        parts.append(pd.DataFrame({"group": np.arange(400), "before": before, "after": after}).assign(**facts))
    return pd.concat(parts)


def test_arms_are_compared_on_the_same_pairs():
    aligned = aligned_pairs()
    rows, gaps = alignment_rows(aligned)
    implicit = rows.set_index("arm")["implicit"]
    assert implicit["cw_po"] > implicit["ws_bt"] > implicit["human"]
    assert gaps["arms"].tolist() == ["cw_po - ws_bt", "cw_po - human", "ws_bt - human"]
    assert gaps["implicit"].tolist()[1] == pytest.approx(implicit["cw_po"] - implicit["human"])
    assert (gaps["implicit_low"] < gaps["implicit"]).all() and gaps["implicit_low"][1] > 0


def test_the_page_says_what_was_measured_and_what_was_not(tmp_path):
    sides = measured_pairs().replace({"annotator": {"b": "before", "a": "after"}})
    write_report(
        measured_pairs(), aligned_pairs(), composed("own_results"), tmp_path / "own", ["pandalm, a, seed 2"], sides
    )
    files = {path.name for path in (tmp_path / "own").iterdir()}
    assert files == {
        "README.md",
        "coverage.png",
        "annotators.csv",
        "coverage.csv",
        "seeds.csv",
        "alignment.csv",
        "alignment_differences.csv",
        "defaults.csv",
    }
    gained = pd.read_csv(tmp_path / "own" / "defaults.csv").set_index("annotator")
    accuracy = gained["accuracy"]
    assert gained.loc["after", "after_minus_before"] == pytest.approx(accuracy["after"] - accuracy["before"], abs=1e-3)
    text = (tmp_path / "own" / "README.md").read_text()
    assert "Not computed yet: pandalm, a, seed 2." in text and "| cw_po - human | +" in text
    assert "| ukp | a | 101, 900 | 0." in text and "| ukp | one human vote |" in text
    assert "nan" not in text
    write_report(measured_pairs(), None, composed("own_results"), tmp_path / "own")
    assert "alignment.csv" not in {path.name for path in (tmp_path / "own").iterdir()}


def test_the_committed_page_is_that_of_the_committed_tables():
    folder = REPO / "results" / "own"
    text = (folder / "README.md").read_text(encoding="utf-8").partition("## Calibration")[0]
    for row in pd.read_csv(folder / "annotators.csv").to_dict("records"):
        (line,) = [x for x in text.splitlines() if x.startswith(f"| {row['data']} | {row['annotator']} | ")]
        assert f"| {row['accuracy']:.3f} [{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}] |" in line


def test_the_command_asks_for_nothing_that_it_sets_itself():
    cfg = composed("own_results")
    check_command(cfg, "own_results")
    with pytest.raises(InputError, match=r"annotate\.annotator\.training\.batch_size"):
        check_command(composed("own_results", "annotate.annotator.training.batch_size=-1"), "own_results")
