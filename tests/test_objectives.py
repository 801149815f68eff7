"""Per-pair losses: values by hand, gradients against differences, identities of the paper, refused arguments."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cwpo.objectives import bradley_terry, dpo, ipo, pair_losses, rdpo, weighted_mean

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4
MARGIN = [0.0, LN3, -LN3]


def tensor(numbers: list[float], **kwargs) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, **kwargs)


def test_bradley_terry_by_hand():
    assert bradley_terry(tensor(MARGIN)).tolist() == pytest.approx([math.log(2), math.log(4 / 3), math.log(4)])


def test_dpo_by_hand():
    # beta 0.5: -log sigmoid(0), -log sigmoid(ln 3), -log sigmoid(-ln 3)
    losses = dpo(tensor([0.0, 2 * LN3, -2 * LN3]), beta=0.5)
    assert losses.tolist() == pytest.approx([math.log(2), math.log(4 / 3), math.log(4)])


def test_ipo_by_hand():
    # beta 0.25: target 1 / 0.5 = 2; squares of 0 - 2, 2 - 2, 5 - 2, -1 - 2
    assert ipo(tensor([0.0, 2.0, 5.0, -1.0]), beta=0.25).tolist() == [4.0, 0.0, 9.0, 9.0]


def test_rdpo_by_hand():
    # e = 0.1, scaled margin ln 3: (0.9 log(4/3) - 0.1 log 4) / 0.8; at 0: (0.9 - 0.1) log 2 / 0.8 = log 2
    losses = rdpo(tensor([2 * LN3, 0.0]), beta=0.5, flip_rate=0.1)
    assert losses.tolist() == pytest.approx([(0.9 * math.log(4 / 3) - 0.1 * math.log(4)) / 0.8, math.log(2)])
    # it may be negative: e = 0.4, scaled margin 10: about (0 - 0.4 * 10) / 0.2 = -20
    assert rdpo(tensor([10.0]), beta=1.0, flip_rate=0.4).item() == pytest.approx(-20, abs=0.01)


def test_weighted_mean_divides_by_the_number_of_pairs():
    # (0.5 * 2 + 0 * 7 + 1 * 3) / 3, not / 1.5
    assert weighted_mean(tensor([2.0, 7.0, 3.0]), tensor([0.5, 0.0, 1.0])).item() == pytest.approx(4 / 3)


def test_weighted_mean_refuses_to_broadcast():
    with pytest.raises(ValueError, match="differ in shape"):
        weighted_mean(torch.ones(3), torch.ones(3, 1))


def test_gradients_agree_with_differences():
    margin = tensor([-1.3, 0.2, 2.1], requires_grad=True)
    assert torch.autograd.gradcheck(bradley_terry, margin)
    for name in ("dpo", "ipo", "rdpo"):
        assert torch.autograd.gradcheck(lambda x, name=name: pair_losses(name, x, 0.3, 0.2), margin)


@pytest.mark.parametrize("margin", [-1e4, 1e4])
@pytest.mark.parametrize("name", ["dpo", "ipo", "rdpo"])
def test_losses_stay_finite_far_out(name, margin):
    assert torch.isfinite(pair_losses(name, torch.tensor([margin]), 0.5, 0.1)).all()


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0.01, 2))
def test_rdpo_without_flips_is_dpo(margin, beta):
    assert torch.equal(rdpo(tensor(margin), beta, 0.0), dpo(tensor(margin), beta))


@given(st.floats(-20, 20), st.floats(0.01, 2), st.floats(0, 0.45))
def test_rdpo_is_dpo_in_expectation_over_flipped_labels(margin, beta, flip_rate):
    right, flipped = (rdpo(tensor([m]), beta, flip_rate).item() for m in (margin, -margin))
    expected = dpo(tensor([margin]), beta).item()
    assert (1 - flip_rate) * right + flip_rate * flipped == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_dpo_is_bradley_terry_on_scaled_margins(margin):
    assert torch.equal(dpo(tensor(margin), 0.5), bradley_terry(0.5 * tensor(margin)))


def test_pair_losses_picks_the_objective_of_that_name():
    margin = tensor(MARGIN)
    assert torch.equal(pair_losses("dpo", margin, 0.5, 0.1), dpo(margin, 0.5))
    assert torch.equal(pair_losses("ipo", margin, 0.5, 0.1), ipo(margin, 0.5))
    assert torch.equal(pair_losses("rdpo", margin, 0.5, 0.1), rdpo(margin, 0.5, 0.1))


@pytest.mark.parametrize("beta", [0.0, -0.5, math.nan])
@pytest.mark.parametrize("name", ["dpo", "ipo", "rdpo"])
def test_beta_must_be_positive(name, beta):
    with pytest.raises(ValueError, match="beta"):
        pair_losses(name, torch.zeros(1), beta, 0.1)


@pytest.mark.parametrize("flip_rate", [0.5, 0.9, -0.1, math.nan])
def test_flip_rate_must_lie_below_one_half(flip_rate):
    with pytest.raises(ValueError, match="flip_rate"):
        rdpo(torch.zeros(1), 0.5, flip_rate)
