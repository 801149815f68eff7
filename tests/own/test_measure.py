"""The annotator report: numbers recovered from synthetic scores of known accuracy and calibration; advice at its thresholds."""

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy.special import expit
from scipy.stats import binomtest

from cwpo.calibration import (
    coverage_accuracy,
    design_effect,
    discrimination,
    expected_calibration_error,
    is_right,
    log_losses,
    mean_difference,
    reliability,
    resampled,
    share,
    tempered,
)
from cwpo.own.defaults import usual_settings
from cwpo.own.measure import calibration, learning_curve, more_labels, report_numbers, shift, votes
from cwpo.own.page import card, report_page
from cwpo.own.verdict import FEW, Verdict, changed, next_step, verdict
from cwpo.weighting import sigmoid

# --- single numbers ----------------------------------------------------------------------------------------------


def test_share_is_wilsons():
    found = share([True] * 70 + [False] * 30)
    expected = binomtest(70, 100).proportion_ci(method="wilson")
    assert found[:] == pytest.approx((0.7, expected.low, expected.high, 100))


def test_pairs_of_one_prompt_that_go_together_count_as_one():
    right = np.repeat(np.arange(40) % 2, 10).astype(float)  # 40 prompts of 10 pairs, all right or all wrong
    prompts = np.repeat(np.arange(40), 10)
    assert design_effect(right, prompts) == pytest.approx(10 * 40 / 39)
    alone, together = share(right), share(right, prompts)
    assert together.n == 400
    width = (together.high - together.low) / (alone.high - alone.low)
    assert width == pytest.approx(np.sqrt(10), rel=0.08)


def test_pairs_that_are_all_right_count_by_prompt():
    assert share([1] * 10, ["a"] * 5 + ["b"] * 5)[:3] == share([1, 1])[:3]
    assert share([0] * 5, ["a"] * 5)[:3] == share([0])[:3]


def test_pairs_of_one_prompt_that_do_not_go_together_count_as_many():
    rng = np.random.default_rng(0)
    right = (rng.random(4000) < 0.7).astype(float)
    assert design_effect(right, np.repeat(np.arange(400), 10)) < 1.3
    assert design_effect(right, None) == 1.0


def test_resamples_draw_whole_groups():
    groups = np.array(["a", "b", "b", "c", "c", "c"])
    for index in resampled(6, groups, 50):
        counts = pd.Series(groups[index]).value_counts()
        assert counts.get("b", 0) % 2 == 0 and counts.get("c", 0) % 3 == 0


def test_mean_difference_by_hand():
    found = mean_difference([1, 1, 0, 1], [0, 1, 0, 0])
    assert (found.mean, found.n) == (0.5, 4)
    assert found.low <= 0.5 <= found.high


def test_pairs_of_one_prompt_give_no_narrow_interval():
    """Resampling whole prompts gives the same sample every time, which would look like certainty."""
    one = ["p"] * 4
    assert mean_difference([1, 1, 0, 1], [0, 0, 0, 0], one) == (0.75, 0, 1, 4)
    assert mean_difference([1, 1], [0, 0], ["p", "p"])[:3] == (1, 0, 1)
    assert discrimination([4, 3, 2, 1], [1, 1, 0, 0], one) == (1, 0, 1, 4)
    curve = curve_of({125: 0.6, 500: 0.7}, n=200)
    assert more_labels(curve) is not None and more_labels(curve.assign(prompt="p")) is None
    pairs = pd.DataFrame({"n_votes": 3, "share": [1, 2 / 3] * 10, "prompt": [f"p{i // 2}" for i in range(20)]})
    assert votes(pairs, np.arange(20)) is not None and votes(pairs.assign(prompt="p"), np.arange(20)) is None


def test_is_right():
    assert is_right([2.0, -1.0, 0.0, 3.0], [1, 1, 0, 0.2]).tolist() == [1.0, 0.0, 0.5, 0.0]


def test_coverage_takes_the_most_confident_first():
    rows = coverage_accuracy([4, 3, 2, 1], [1, 1, 0, 0], [0.25, 0.5, 0.75, 1.0])
    assert [(cover, value.mean, value.n) for cover, value in rows] == [
        (0.25, 1.0, 1),
        (0.5, 1.0, 2),
        (0.75, pytest.approx(2 / 3), 3),
        (1.0, 0.5, 4),
    ]


def test_calibration_error_by_hand():
    assert discrimination([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]).mean == 0.875  # 3 of 4 pairs above, one tied
    # two bins: expected .6 and .9, observed .5 and 1: (.1 * 2 + .1 * 2) / 4
    assert expected_calibration_error([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], bins=2) == pytest.approx(0.1)
    assert [expected for expected, _ in reliability([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], bins=2)] == [0.6, 0.9]


def test_intervals_of_calibration_treat_the_pairs_of_a_prompt_as_one_draw():
    one = held_out_pairs(200)
    same = pd.concat([one.assign(pair_id=one["pair_id"] + str(i)) for i in range(5)])
    for name in ("bins_before", "bins_after"):
        once, copied = (calibration(pairs)[name] for pairs in (one, same))
        for a, b in zip(once, copied, strict=True):
            assert b["n"] == 5 * a["n"]
            assert b["mean"] == 1 or b["high"] - b["low"] > 0.8 * (a["high"] - a["low"])


def test_log_loss_by_hand():
    expected = [np.log(2), np.log(2), -0.75 * np.log(expit(2)) - 0.25 * np.log(expit(-2))]
    assert log_losses([0.0, 0.0, 2.0], [1, 0, 0.75]) == pytest.approx(expected)


# --- synthetic annotators ----------------------------------------------------------------------------------------


def held_out_pairs(n=2000, spread=2.0, overconfidence=1.0, seed=0, group=1) -> pd.DataFrame:
    """Held-out pairs whose true log-odds are normal with standard deviation `spread`; the annotator says them times `overconfidence`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, spread, n)
    votes = (rng.random((n, 5)) < expit(logit)[:, None]).mean(axis=1)
    return pd.DataFrame(
        {
            "pair_id": [f"{i:016x}" for i in range(n)],
            "prompt": [f"prompt {i // group}" for i in range(n)],
            "response_a": ["x" * k for k in rng.integers(1, 40, n)],
            "response_b": ["x" * k for k in rng.integers(1, 40, n)],
            "domain": np.where(np.arange(n) % 2, "odd", "even"),
            "target": (rng.random(n) < expit(logit)).astype(float),
            "share": votes,
            "n_votes": 5,
            "gap": logit * overconfidence,
            "agree": 1.0,
        }
    )


def true_accuracy(pairs: pd.DataFrame) -> float:
    return float(sigmoid(pairs["gap"].abs()).mean())


@pytest.mark.parametrize("seed", range(3))
def test_a_calibrated_annotator_is_recognised(seed):
    pairs = held_out_pairs(seed=seed)
    numbers = report_numbers(pairs, None)
    accuracy = numbers["accuracy"]
    assert accuracy["low"] < true_accuracy(pairs) < accuracy["high"]
    for row in numbers["coverage"]:
        top = pairs.reindex(pairs["gap"].abs().sort_values(ascending=False).index).head(row["n"])
        assert row["low"] - 0.01 < true_accuracy(top) < row["high"] + 0.01
    found = numbers["calibration"]
    assert found["temperature"] == pytest.approx(1.0, abs=0.15)
    assert found["ece_before"] < 0.035
    assert found["log_loss_change"]["low"] < 0.002 and found["log_loss_change"]["high"] > -0.002
    inside = [row["low"] <= row["expected"] <= row["high"] for row in found["bins_before"]]
    assert sum(inside) >= 8  # of ten 95 % intervals


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_scaling_repairs_a_known_miscalibration(temperature):
    found = report_numbers(held_out_pairs(overconfidence=temperature), None)["calibration"]
    assert found["temperature"] == pytest.approx(temperature, rel=0.15)
    assert found["ece_after"] < 0.035 < found["ece_before"]
    assert found["log_loss_after"] < found["log_loss_before"]
    assert found["log_loss_change"]["high"] < 0


def test_the_temperature_of_a_pair_is_fitted_on_other_prompts():
    pairs = held_out_pairs(n=400, group=10)
    gap, target, prompts = (pairs[name].to_numpy() for name in ("gap", "target", "prompt"))
    factor = tempered(gap, target, prompts) / gap
    by_prompt = pd.Series(factor.round(6)).groupby(prompts).nunique()
    assert (by_prompt == 1).all() and len(set(factor.round(6))) == 2
    changed = target.copy()
    mine = prompts == prompts[0]
    changed[mine] = 1 - changed[mine]
    again = tempered(gap, changed, prompts) / gap
    assert again[mine] == pytest.approx(factor[mine])  # its own labels have no say
    assert tempered(gap, target, np.zeros(len(gap))) == pytest.approx(gap)  # one group: nothing to fit on


def test_confidence_that_says_nothing():
    rng = np.random.default_rng(1)
    found = discrimination(rng.random(2000), rng.random(2000) < 0.7)
    assert found.low < 0.5 < found.high


def test_confidence_follows_the_agreement_of_people():
    pairs = held_out_pairs()
    found = report_numbers(pairs, None)["votes"]
    assert found["rank_correlation"]["low"] > 0.3
    assert found["one_vote_agrees_with_majority"] == pytest.approx(
        np.maximum(pairs["share"], 1 - pairs["share"]).mean()
    )
    shuffled = pairs.assign(gap=np.random.default_rng(0).permutation(pairs["gap"]))
    rank = report_numbers(shuffled, None)["votes"]["rank_correlation"]
    assert rank["low"] < 0 < rank["high"]


def test_length_bias_is_measured():
    pairs = held_out_pairs()
    longer = pairs["response_a"].str.len() - pairs["response_b"].str.len()
    bias = report_numbers(pairs.assign(gap=longer + 0.01), None)["bias"]
    assert bias["annotator_prefers_longer"]["mean"] == 1.0
    assert bias["people_prefer_longer"]["low"] < 0.5 < bias["people_prefer_longer"]["high"]


def test_members_that_disagree_are_less_often_right():
    pairs = held_out_pairs()
    unsure = pairs["gap"].abs() < 1
    found = report_numbers(pairs.assign(agree=np.where(unsure, 2 / 3, 1.0)), None)["members"]
    assert found["disagree"]["mean"] == pytest.approx(unsure.mean())
    assert found["accuracy_disagreed"]["high"] < found["accuracy_agreed"]["low"]
    assert report_numbers(pairs, None)["members"] is None


# --- learning curve and shift ------------------------------------------------------------------------------------


def curve_of(accuracies: dict[int, float], n=3000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    draws = rng.random(n)  # the same pairs are easy for all
    parts = []
    for size, accuracy in accuracies.items():
        right = draws < accuracy
        parts.append(
            pd.DataFrame(
                {
                    "pair_id": np.arange(n).astype(str),
                    "prompt": np.arange(n).astype(str),
                    "target": 1.0,
                    "gap": np.where(right, 1.0, -1.0),
                    "share_trained_on": size / max(accuracies),
                    "n_train": size,
                }
            )
        )
    return pd.concat(parts)


def test_more_labels_go_on_along_the_logarithm():
    # 5 points for each doubling: from 500 to 1000 labels 5 more
    curve = curve_of({125: 0.6, 250: 0.65, 500: 0.7})
    assert [row["n_train"] for row in learning_curve(curve)] == [125, 250, 500]
    found = more_labels(curve)
    assert found["mean"] == pytest.approx(0.05, abs=0.01)
    assert 0 < found["low"] < found["mean"] < found["high"]


def test_a_flat_curve_promises_nothing():
    found = more_labels(curve_of({125: 0.7, 250: 0.7, 500: 0.7}))
    assert [found[name] for name in ("mean", "low", "high")] == pytest.approx([0, 0, 0], abs=1e-9)


def test_shift_sees_longer_texts_and_new_words():
    pairs = held_out_pairs(n=500)
    same = pairs.rename(columns={"response_a": "chosen", "response_b": "rejected"})
    assert max(d["distance"] for d in shift(pairs, same)["distances"].values()) == 0
    assert shift(pairs, same)["unseen_words"] == 0
    moved = shift(pairs, same.assign(chosen=same["chosen"] + " and quite unheard of words"))
    assert moved["distances"]["response length"]["distance"] > 0.3
    assert moved["unseen_words"] > 0


# --- the verdict -------------------------------------------------------------------------------------------------


def interval(mean, half, n=1000) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def numbers(**changes) -> dict:
    """A good annotator: .75, informative, above both baselines, whose learning curve is flat."""
    usual = {
        "accuracy": interval(0.75, 0.03),
        "baselines": {"majority": interval(0.5, 0.03), "longer": interval(0.6, 0.03)},
        "difference": {"majority": interval(0.25, 0.04), "longer": interval(0.15, 0.04)},
        "discrimination": interval(0.65, 0.03),
        "coverage": [{"coverage": c, **interval(1.0 - c / 4, 0.02, round(1000 * c))} for c in (0.1, 0.3, 0.5, 1.0)],
        "more_labels": {"extra": 500, "n_train": 800, "mean": 0.0, "low": -0.01, "high": 0.01},
    }
    return usual | changes


PROMISING = {"extra": 500, "n_train": 800, "mean": 0.03, "low": 0.01, "high": 0.05}
WEAK = [{"coverage": c, **interval(0.6, 0.02)} for c in (0.3, 1.0)]


@pytest.mark.parametrize(
    ("changes", "advice", "coverage"),
    [
        ({}, "weights", 1.0),
        ({"accuracy": interval(0.69, 0.041)}, "top", 1.0),  # lower end .649 misses .65; its coverage row does not
        ({"accuracy": interval(0.69, 0.039)}, "weights", 1.0),
        ({"accuracy": interval(0.62, 0.03), "coverage": numbers()["coverage"][:3]}, "top", 0.5),
        ({"accuracy": interval(0.62, 0.03), "coverage": WEAK}, "do_not_use", 0.0),
        ({"accuracy": interval(0.62, 0.03), "coverage": WEAK, "more_labels": PROMISING}, "more_labels", 0.0),
        ({"accuracy": interval(0.53, 0.03)}, "do_not_use", 0.0),  # cannot be told from guessing
        ({"accuracy": interval(0.53, 0.03), "more_labels": PROMISING}, "more_labels", 0.0),
        ({"accuracy": interval(0.53, 0.03), "more_labels": PROMISING | {"mean": 0.019}}, "do_not_use", 0.0),
        ({"accuracy": interval(0.53, 0.03), "more_labels": None}, "do_not_use", 0.0),
        ({"accuracy": interval(0.75, 0.03, n=FEW - 1)}, "more_labels", 0.0),
        ({"accuracy": interval(0.75, 0.03, n=FEW)}, "weights", 1.0),
        ({"discrimination": interval(0.52, 0.03)}, "top", 1.0),  # right enough, but its confidence is no help
        ({"discrimination": None}, "weights", 1.0),  # all right
        ({"difference": {"majority": interval(0.2, 0.04), "longer": interval(-0.05, 0.04)}}, "do_not_use", 0.0),
        ({"difference": {"majority": interval(0.2, 0.04), "longer": interval(-0.03, 0.04)}}, "weights", 1.0),
    ],
)
def test_advice(changes, advice, coverage):
    found = verdict(numbers(**changes), 0.65)
    assert (found.advice, found.coverage) == (advice, coverage)
    assert found.title and found.reasons[0].startswith("right on ")


def test_a_small_top_is_not_trusted():
    rows = [{"coverage": 0.1, **interval(0.9, 0.02, n=FEW // 2 - 1)}, {"coverage": 1.0, **interval(0.6, 0.02)}]
    assert verdict(numbers(accuracy=interval(0.6, 0.03), coverage=rows), 0.65).advice == "do_not_use"


def test_the_verdict_says_what_is_better():
    lost = {"majority": interval(0.2, 0.04), "longer": interval(-0.05, 0.04)}
    assert verdict(numbers(difference=lost), 0.65).reasons[-1] == "naming the longer response is better, and free"


def test_numbers_of_few_labels_are_not_said():
    few = {
        "accuracy": interval(0.6, 0.11, n=80),
        "baselines": {"majority": interval(0.5, 0.11), "longer": interval(0.4, 0.11)},
        "difference": {"majority": interval(0.1, 0.15), "longer": interval(0.2, 0.15)},
        "discrimination": interval(0.5, 0.12),
        "more_labels": PROMISING | {"low": -0.1, "high": 0.16},
    }
    found = verdict(numbers(**few), 0.65)
    assert found.reasons[:-1] == [
        "accuracy on 80 held-out pairs: too few labels to say",
        "always naming the same side is right on 50.0%; too few labels to say whether the annotator is better",
        "naming the longer response is right on 40.0%; the annotator's difference is +20.0 points [+5.0, +35.0]: better",
        "probability that a right label has more confidence than a wrong one: too few labels to say",
        "too few labels to say whether more labels would help",
    ]
    assert found.sentence == ("Label more pairs: 80 held-out pairs are too few to conclude anything: 100 are needed.")


@pytest.mark.parametrize(
    ("advice", "coverage", "known", "command"),
    [
        ("weights", 1.0, 0.8, "align.py preferences=o/preferences.parquet model=path/or/hub-id out=aligned"),
        ("top", 0.3, 0.8, "align.py preferences=o/preferences.parquet model=path/or/hub-id out=aligned keep=0.3"),
        ("top", 1.0, 0.8, "annotate.py 'data=my pairs.csv' model=m out=o +columns.prompt=q weighting=uniform"),
        ("more_labels", 0.0, 0.8, "annotate.py 'data=my pairs.csv' model=m out=o +columns.prompt=q"),
        ("do_not_use", 0.0, 0.5, "annotate.py 'data=my pairs.csv' model=m out=o +columns.prompt=q tune=true"),
        ("do_not_use", 0.0, 0.8, "annotate.py 'data=my pairs.csv' out=o +columns.prompt=q model=path/or/hub-id"),
    ],
)
def test_the_next_command(advice, coverage, known, command):
    given = {
        "config": {"out": "o"},
        "training": {"train_accuracy": known, "tried": {"1e-4": 0.7}},
        "input": {"labeled": 9},
    }
    again = {"data": "my pairs.csv", "model": "m", "out": "o", "+columns.prompt": "q"}
    words, found = next_step(Verdict(advice, coverage, "", []), given, again)
    assert words and found == f"python scripts/{command}"


def test_the_next_command_has_every_setting_that_was_given():
    own = {"data": "d.csv", "out": "o", "model": "m", "columns": {"label": "l"}, "ties": "soft", "curve": [0.5, 0.8]}
    own |= {"annotator": {"members": 2, "training": {"learning_rate": 1.25e-4}}, "include_labeled": False}
    cfg = OmegaConf.merge(usual_settings(), own)
    assert changed(cfg) == {
        "data": "d.csv",
        "+columns.label": "l",
        "ties": "soft",
        "model": "m",
        "out": "o",
        "annotator.members": 2,
        "annotator.training.learning_rate": 1.25e-4,
        "curve": [0.5, 0.8],
        "include_labeled": False,
    }
    numbers = {"config": own, "training": None, "input": {"labeled": 9}}
    _, command = next_step(Verdict("more_labels", 0.0, "", []), numbers, changed(cfg))
    assert command.endswith("annotator.training.learning_rate=0.000125 'curve=[0.5,0.8]' include_labeled=false")
    _, command = next_step(Verdict("do_not_use", 0.0, "", []), numbers, changed(cfg))
    assert command.endswith("include_labeled=false model=path/or/hub-id") and "learning_rate" not in command


def test_a_curve_of_one_size_forecasts_nothing():
    assert more_labels(curve_of({400: 0.6}, n=50)) is None
    twice = curve_of({400: 0.6, 500: 0.7}, n=50).assign(
        n_train=400
    )  # a share of .8 beside the first fold's four fifths
    assert more_labels(twice) is None


def test_a_resample_with_one_confidence_is_left_out():
    pairs = held_out_pairs(n=30).assign(n_votes=3, share=np.where(np.arange(30) % 2, 1.0, 2 / 3))
    found = votes(pairs, np.where(np.arange(30) == 0, 0.5, 1.0))
    assert np.isfinite(list(found["rank_correlation"].values())).all()


# --- pages -------------------------------------------------------------------------------------------------------


def test_page_and_card_escape_what_comes_from_data():
    pairs = held_out_pairs(n=300).assign(domain=np.where(np.arange(300) % 2, "<script>x", "b"), agree=0.9)
    found = report_numbers(pairs, curve_of({125: 0.6, 500: 0.7}, n=300))
    advice = verdict(found, 0.65)
    found |= {
        "target_accuracy": 0.65,
        "verdict": advice._asdict() | {"sentence": advice.sentence},
        "next": ["Align", "python scripts/align.py out='<i>'"],
        "about": "<b>about</b>",
        "input": {"read": 9, "kept": 8, "labeled": 7, "dropped": {"empty_response": [3]}},
    }
    page = report_page(found)
    assert "<script>" not in page and "&lt;script&gt;x" in page and "&lt;b&gt;about" in page
    assert page.count("<img ") == 4 and "viewport" in page and ">empty response</th>" in page
    assert advice.sentence in card(found) and "<h1>Use the labels of all pairs" in page
    order = [page.index(part) for part in ("<h1>", "<img ", "<code>python scripts/align.py", "<h2>Why")]
    assert order == sorted(order) and "<i>" not in page
