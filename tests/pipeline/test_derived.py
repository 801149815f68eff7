"""Settings that the arm's choices do not use change no key; those that they use do."""

import numpy as np
import pytest
import torch

from cwpo.objectives import pair_losses
from cwpo.pipeline.arms import expand
from cwpo.pipeline.derived import READ
from cwpo.weighting import pair_weights


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("lora.enabled=false", "lora.r=8,4"),
        ("lora.enabled=false", "lora.dropout=0.05,0.1"),
        ("weighting=c1", "weighting.scale=1,2"),
        ("objective=dpo", "objective.flip_rate=0,0.2"),
        ("gold=oracle", "gold.temperature=1,2"),
        ("gold=judge", "gold.batch_size=32,16"),
        ("weighting=c1_permuted", "weighting.scale=1,2"),
    ],
)
def test_a_setting_that_the_choice_does_not_use_makes_no_other_arm(choice, values):
    """Otherwise a sweep over it trains the same arm once for each value, and ranks the copies."""
    (arm,) = expand([choice, values], look=False)  # one of the values is the default
    assert arm.point == {values.partition("=")[0]: None}


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("lora.enabled=true", "lora.r=2,4"),
        ("weighting=c3", "weighting.scale=0.5,2"),
        ("weighting=c1", "weighting.permute=true,false"),
        ("objective=rdpo", "objective.flip_rate=0.1,0.2"),
        ("objective=ipo", "objective.average_logps=true,false"),
        ("gold=judge", "gold.temperature=1,2"),
        ("gold=trained", "gold.training.epochs=1,2"),
    ],
)
def test_a_setting_that_the_choice_uses_makes_another_arm(choice, values):
    assert len(expand([choice, values], look=False)) == 2


def test_a_choice_that_is_not_known_reads_all_settings(monkeypatch):
    """A user's own weighting may use the scale: then a changed scale must be another arm, computed with that scale."""
    monkeypatch.delitem(READ["weighting"], "c1")
    arms = expand(["weighting=c1", "weighting.scale=1,2"], look=False)
    assert sorted(arm.cfg.weighting.scale for arm in arms) == [1, 2] and len({arm.key for arm in arms}) == 2


def test_known_choices_ignore_what_they_are_said_to_ignore():
    gap, margin = np.array([0.3, 2.0]), torch.tensor([0.3, -2.0])
    for name in READ["weighting"]:
        assert (pair_weights(name, gap, 1.0) == pair_weights(name, gap, 0.1)).all()
    for name in READ["objective"]:
        assert torch.equal(pair_losses(name, margin, 0.5, 0.0), pair_losses(name, margin, 0.5, 0.4))
