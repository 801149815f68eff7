"""Weights of the pairs: the paper's numbers by hand, and what must hold for any gap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cwpo.weighting import clipped_gap, most_confident, pair_weights, scaled_sigmoid, sigmoid

GAPS = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 30))
LN3 = math.log(3)  # sigmoid(ln 3) = 3/4


def test_c1_is_twice_the_sigmoid_above_one_half():
    # 2 (1/2 - 1/2) = 0; 2 (3/4 - 1/2) = 1/2; sigmoid(ln 9) = 9/10, 2 (9/10 - 1/2) = 4/5
    assert scaled_sigmoid([0.0, LN3, 2 * LN3]) == pytest.approx([0.0, 0.5, 0.8])


def test_c2_is_the_bradley_terry_probability():
    assert sigmoid([0.0, LN3, 2 * LN3]) == pytest.approx([0.5, 0.75, 0.9])


def test_c3_is_the_gap_up_to_one():
    assert clipped_gap([0.0, 0.4, 1.0, 7.0]).tolist() == [0.0, 0.4, 1.0, 1.0]


def test_c4_is_a_fifth_of_the_gap_up_to_one():
    assert clipped_gap([0.0, 0.5, 4.0, 5.0, 7.0], scale=0.2) == pytest.approx([0.0, 0.1, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("uniform", [1, 1]), ("c1", [0.5, 0.8]), ("c2", [0.75, 0.9]), ("c3", [1, 1]), ("c4", [0.2 * LN3, 0.4 * LN3])],
)
def test_pair_weights_picks_the_choice_of_that_name(name, expected):
    assert pair_weights(name, [LN3, 2 * LN3], scale=0.2 if name == "c4" else 1.0) == pytest.approx(expected)


def test_an_unknown_weighting_is_an_error():
    with pytest.raises(KeyError):
        pair_weights("c9", [1.0])


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_clipping_needs_a_positive_scale(scale):
    with pytest.raises(ValueError, match="positive"):
        clipped_gap([1.0], scale=scale)


@given(GAPS)
def test_c1_is_the_formula_of_the_paper(gap):
    weights = scaled_sigmoid(gap)
    assert weights == pytest.approx(2 * (1 / (1 + np.exp(-gap)) - 0.5), abs=1e-12)
    assert ((weights >= 0) & (weights < 1)).all()


def test_c1_grows_strictly():
    assert (np.diff(scaled_sigmoid(np.linspace(0, 20, 200))) > 0).all()


def test_the_most_confident_are_kept():
    assert most_confident([0.1, 0.9, 0.4, 0.8], 0.5).tolist() == [False, True, False, True]


def test_ties_at_the_boundary_are_taken_in_order():
    assert most_confident([0.5, 0.9, 0.5, 0.5], 0.5).tolist() == [True, True, False, False]


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_smaller_fraction_keeps_a_subset(confidence, one, other):
    few, many = (most_confident(confidence, f) for f in sorted([one, other]))
    assert (few <= many).all()
