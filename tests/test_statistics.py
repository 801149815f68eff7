"""Statistics against numbers derived by hand, and intervals against what they promise."""

import numpy as np
import pytest

from cwpo.statistics import bootstrap_interval, gold_reward_accuracy, mean_shift, paired_difference, principal_plane


def test_gra_counts_ties_as_losses():
    # wins on prompts 0 and 3, a tie on 1, a loss on 2: 2 / 4, ties 1 / 4, sqrt(.5 * .5 / 4) = .25
    found = gold_reward_accuracy([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 3.0, 4.0])
    assert found == (0.5, 0.25, 0.25)


def test_interval_of_one_sample_covers_its_mean_as_promised():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        interval = bootstrap_interval(rng.normal(size=80), resamples=400, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.90 <= covered / 200 <= 0.985


def test_interval_grows_when_seeds_differ():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 200))
    same = bootstrap_interval(noise)
    apart = bootstrap_interval(noise + np.array([[-1.0], [0.0], [1.0]]))
    assert apart.high - apart.low > 3 * (same.high - same.low)


def test_pairing_narrows_the_interval_of_correlated_arms():
    rng = np.random.default_rng(2)
    common = rng.normal(size=300)
    a, b = common + 0.1 + 0.05 * rng.normal(size=300), common
    paired = paired_difference(a, b)
    alone = bootstrap_interval(a)
    assert paired.mean == pytest.approx(np.mean(a - b))
    assert paired.low > 0
    assert paired.high - paired.low < (alone.high - alone.low) / 5
    assert (paired.n_seeds, paired.n_prompts) == (1, 300)


def test_pairs_must_have_the_same_seeds():
    with pytest.raises(ValueError, match="a has 2 seeds and b has 1"):
        paired_difference([[1.0], [2.0]], [[1.0]])


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap_interval([[]])
    with pytest.raises(ValueError, match="1 of 2 values"):
        bootstrap_interval([1.0, np.inf])


def test_two_level_interval_against_its_formula():
    # three seeds of constant values -1, 0, 1: only seeds vary; P(all three draws are 1) = 1/27 > 2.5 %
    constant = np.array([[-1.0] * 10, [0.0] * 10, [1.0] * 10])
    assert bootstrap_interval(constant) == (0.0, -1.0, 1.0)
    # one seed, half ones: the mean of n = 400 draws has standard error .5 / 20 = .025
    ones = bootstrap_interval(np.repeat([0.0, 1.0], 200), resamples=20_000)
    assert (ones.low, ones.high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.004)


def test_more_confidence_is_wider():
    values = np.random.default_rng(0).normal(size=100)
    narrow, wide = (bootstrap_interval(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_principal_plane_by_hand():
    # About the mean (1, 1, 1) the points spread most along the second axis, then along the third, not along the first.
    points = [[1, 4, 1], [1, -2, 1], [1, 1, 3], [1, 1, -1]]
    plane = principal_plane(points)
    assert np.allclose(plane(points), [[3, 0], [-3, 0], [0, 2], [0, -2]])
    assert np.allclose(plane([[9, 2, 0]]), [[1, -1]])  # what lies off the plane is not seen
    with pytest.raises(ValueError, match=r"at least 2 points of at least 2 dimensions; got shape \(1, 3\)"):
        principal_plane([[1, 2, 3]])


def test_mean_shift_by_hand():
    # mean (0, 0), mean squared distance (4 + 4 + 1 + 1) / 4 = 2.5; the other mean is (3, 4)
    points = [[2, 0], [-2, 0], [0, 1], [0, -1]]
    assert mean_shift(points, [[3, 3], [3, 5]]) == pytest.approx(5 / 2.5**0.5)
    assert mean_shift(points, points) == 0
