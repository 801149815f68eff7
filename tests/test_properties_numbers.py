"""Weights, selection and statistics on any numbers: ties, one value, one class, NaN and infinite, none at all."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import BROKEN, FINITE, holds, numbers, with_broken

from cwpo.calibration import (
    coverage_accuracy,
    design_effect,
    discrimination,
    expected_calibration_error,
    fit_temperature,
    is_right,
    log_losses,
    mean_difference,
    reliability,
    share,
    tempered,
)
from cwpo.finite import check_finite
from cwpo.statistics import (
    bootstrap_interval,
    clustered_interval,
    gold_reward_accuracy,
    mean_shift,
    paired_difference,
    principal_plane,
    proportion_interval,
    subset_spread,
)
from cwpo.weighting import mean_one, most_confident, pair_weights, sigmoid

KINDS = st.sampled_from(["uniform", "c1", "c2", "c3", "c4", "c1_normalized", "c1_permuted"])
GAPS = numbers(st.floats(0, 1e6) | st.sampled_from([0.0, 5e-324, 1e300]))
SOME = numbers(least=1)
FRACTION = st.floats(0, 1, exclude_min=True)
COUNT = st.integers(1, 12)
TARGETS = st.sampled_from([0.0, 1.0])


@holds(KINDS, GAPS, st.floats(1e-6, 1e6))
def test_weights_are_between_0_and_1_and_follow_the_gap(kind, gaps, scale):
    weights = pair_weights(kind, gaps, scale)
    assert weights.shape == (len(gaps),) and ((weights >= 0) & (weights <= 1)).all()
    order = np.argsort(gaps, kind="stable")
    assert (np.diff(weights[order]) >= 0).all()


@holds(KINDS, with_broken(st.floats(0, 10)) | numbers(st.floats(-10, -1e-9), least=1))
def test_gaps_that_are_none_are_refused(kind, gaps):
    if kind == "uniform":  # reads no gap: arms with human labels have none
        assert pair_weights(kind, gaps).tolist() == [1.0] * len(gaps)
        return
    with pytest.raises(ValueError, match=r"\d+ of \d+ score gaps are (NaN or infinite|negative)"):
        pair_weights(kind, gaps, 1.0)


@holds(numbers(st.floats(0, 1) | FINITE) | with_broken(st.floats(0, 1)))
def test_mean_one_has_mean_one_or_says_why_not(weights):
    values = np.array(weights, dtype=float)
    fine = len(values) and np.isfinite(values).all() and (values >= 0).all() and values.mean() > 1e-299
    if not fine and not (values.sum() > 1e-300 * len(values) and np.isfinite(values).all() and (values >= 0).all()):
        with pytest.raises(ValueError, match="cannot be given mean 1"):
            mean_one(weights)
        return
    scaled = mean_one(weights)
    assert scaled.mean() == pytest.approx(1) and (scaled >= 0).all()
    assert (
        np.argsort(scaled, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()
        or len(set(weights)) > 1
    )


@holds(numbers(st.floats(0, 1) | st.just(float("inf")), least=1), FRACTION)
def test_exactly_the_share_is_kept_of_any_confidences(confidence, fraction):
    mask = most_confident(confidence, fraction)
    kept, left = np.array(confidence)[mask], np.array(confidence)[~mask]
    assert mask.sum() == max(1, round(fraction * len(confidence)))
    assert not len(left) or kept.min() >= left.max()
    if len(set(confidence)) == 1:  # all tied: the first ones, in their order
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)


@holds(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 8), st.floats() | st.integers(-3, 3))
def test_confidences_or_shares_that_are_none_are_refused(confidence, at, fraction):
    assert most_confident([], 0.5).tolist() == []
    broken = [*confidence[:at], float("nan"), *confidence[at:]]
    with pytest.raises(ValueError, match=f"1 of {len(broken)} confidences are NaN"):
        most_confident(broken, 0.5)
    if not 0 < fraction <= 1:
        with pytest.raises(ValueError, match="fraction"):
            most_confident(confidence, fraction)


@holds(st.lists(FINITE | BROKEN, max_size=150))
def test_numbers_that_went_wrong_are_named_one_by_one(values):
    names = [f"pair{i}" for i in range(len(values))]
    broken = [name for name, value in zip(names, values) if not np.isfinite(value)]
    if not broken:
        check_finite(values, names, "scores")
        return
    with pytest.raises(FloatingPointError) as stopped:
        check_finite(values, names, "scores")
    said = str(stopped.value)
    assert said.startswith(f"scores of {len(broken)} of {len(values)} pairs are NaN or infinite: ")
    assert ", ".join(broken[:64]) in said and (len(broken) <= 64 or f" and {len(broken) - 64} more" in said)


@holds(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=20))
def test_accuracy_win_rate_and_ties_add_up(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    one, other = gold_reward_accuracy(a, b), gold_reward_accuracy(b, a)
    assert one.accuracy + other.accuracy + one.tie_rate == pytest.approx(1)
    assert one.tie_rate == other.tie_rate and 0 <= one.standard_error <= 0.5
    assert gold_reward_accuracy(a, a).accuracy == 0


@holds(with_broken(), st.booleans())
def test_rewards_that_are_no_numbers_are_refused_everywhere(rewards, first):
    fine = [0.0] * len(rewards)
    pair = (rewards, fine) if first else (fine, rewards)
    for function in (gold_reward_accuracy, paired_difference):
        with pytest.raises(ValueError, match="NaN or infinite"):
            function(*pair)
    with pytest.raises(ValueError, match="NaN or infinite"):
        bootstrap_interval([fine, rewards])
    with pytest.raises(ValueError, match="no prompts"):
        gold_reward_accuracy([], [])
    with pytest.raises(ValueError, match="same N prompts"):
        gold_reward_accuracy(fine, [*fine, 0.0])


@holds(st.lists(SOME, min_size=1, max_size=4), st.integers(0, 3), share=0.6)
def test_intervals_hold_what_can_be(groups, seed):
    interval = bootstrap_interval(groups, resamples=50, seed=seed)
    means = [float(np.mean(group)) for group in groups]
    slack = 1e-9 * max(1.0, *(abs(value) for group in groups for value in group))
    assert interval.mean == pytest.approx(np.mean(means), abs=slack)
    assert min(map(min, groups)) - slack <= interval.low <= interval.high <= max(map(max, groups)) + slack
    if len({value for group in groups for value in group}) == 1:
        assert interval.high - interval.low <= slack
    assert bootstrap_interval(groups, resamples=50, seed=seed) == interval
    zero = paired_difference(groups, groups, resamples=20)
    assert zero[:3] == (0, 0, 0) and zero.n_prompts == sum(map(len, groups))


@holds(st.lists(st.lists(SOME, min_size=2, max_size=2), min_size=1, max_size=3), share=0.5)
def test_cells_of_one_seed_go_together(clusters):
    interval = clustered_interval(clusters, resamples=30)
    flat = [value for cells in clusters for cell in cells for value in cell]
    slack = 1e-9 * max(1.0, *map(abs, flat))
    assert min(flat) - slack <= interval.low <= interval.high <= max(flat) + slack
    with pytest.raises(ValueError, match="same cells"):
        clustered_interval([*clusters, clusters[0][:1]], resamples=5)


@holds(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 500)), min_size=1, max_size=4), st.floats(), share=0.6)
def test_shares_have_intervals_in_0_to_1(trials, strange):
    shares, counts = map(list, zip(*trials, strict=True))
    interval = proportion_interval(shares, counts, resamples=50)
    assert 0 <= interval.low <= interval.high <= 1 and interval.mean == pytest.approx(np.mean(shares))
    if not 0 <= strange <= 1:
        with pytest.raises(ValueError, match="shares must be in"):
            proportion_interval([*shares, strange], [*counts, 3])


@holds(SOME, st.integers(2, 5))
def test_subsets_spread_around_the_mean(values, subsets):
    if len(values) < subsets:
        with pytest.raises(ValueError, match="cannot be cut"):
            subset_spread(values, subsets)
        return
    mean, spread = subset_spread(values, subsets)
    assert min(values) - 1e-6 <= mean <= max(values) + 1e-6 and spread >= 0
    if len(set(values)) == 1:
        assert spread == pytest.approx(0, abs=1e-6)


@holds(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), max_size=8))
def test_a_cloud_without_spread_is_refused(points):
    if len(points) < 2:
        with pytest.raises(ValueError):
            principal_plane(points)
        return
    assert principal_plane(points)(points).shape == (len(points), 2)
    with pytest.raises(ValueError, match=r"spread|must be \(N, D\)"):
        mean_shift([points[0]] * 3, points)
    with pytest.raises(ValueError):
        principal_plane([*points, [float("nan"), 0.0]])
    if len({tuple(point) for point in points}) > 1 and np.ptp(points, axis=0).max() > 1e-3:
        assert mean_shift(points, points) == pytest.approx(0, abs=1e-6)


@holds(st.lists(TARGETS | st.just(0.5), min_size=1, max_size=30), st.data())
def test_a_share_lies_in_its_interval_also_of_one_class(right, data):
    groups = data.draw(st.lists(st.integers(0, 3), min_size=len(right), max_size=len(right)))
    for interval in (share(right), share(right, groups)):
        assert 0 <= interval.low <= interval.mean <= interval.high <= 1 and interval.n == len(right)
    assert design_effect(right, groups) >= 1
    assert share(right, groups).high - share(right, groups).low >= share(right).high - share(right).low - 1e-9


@holds(st.lists(st.tuples(FINITE, TARGETS), min_size=1, max_size=25), COUNT, st.data(), share=0.5)
def test_calibration_of_any_scores(pairs, bins, data):
    gap, target = map(list, zip(*pairs, strict=True))
    groups = data.draw(st.none() | st.lists(st.integers(0, 4), min_size=len(gap), max_size=len(gap)))
    right, probability = is_right(gap, target), sigmoid(np.abs(gap))
    assert set(right) <= {0.0, 0.5, 1.0} and ((probability >= 0.5) & (probability <= 1)).all()
    assert (is_right(-np.array(gap), 1 - np.array(target)) == right).all()
    parts = reliability(probability, right, bins)
    assert sum(measured.n for _, measured in parts) == len(gap) and len(parts) == min(bins, len(gap))
    assert 0 <= expected_calibration_error(probability, right, bins) <= 1
    assert (log_losses(gap, target) >= 0).all()
    assert 0.01 <= fit_temperature(gap, target) <= 100.0001
    ((_, everything),) = coverage_accuracy(probability, right, [1.0], groups)
    assert everything.mean == pytest.approx(right.mean())
    again = tempered(gap, target, groups or range(len(gap)))
    assert (np.sign(again) == np.sign(gap)).all() or np.min(np.abs(np.array(gap)[np.array(gap) != 0])) < 1e-300
    auc = discrimination(probability, right, groups)
    one_class = not {0.0, 1.0} <= set(right)
    assert np.isnan(auc.mean) if one_class else 0 <= auc.mean <= 1
    difference = mean_difference(gap, gap, groups)
    assert difference[:3] == (0, 0, 0)


@holds(with_broken(), st.booleans())
def test_calibration_refuses_what_is_no_number(values, first):
    fine = [1.0] * len(values)
    for function in (is_right, log_losses, fit_temperature, discrimination, reliability):
        with pytest.raises(ValueError):
            function(*((values, fine) if first else (fine, values)))
    with pytest.raises(ValueError):
        is_right([], [])
    with pytest.raises(ValueError, match=f"{len(fine)} targets are ties"):
        is_right(fine, [0.5] * len(fine))
    with pytest.raises(ValueError, match="a share needs at least one value"):
        share([])
