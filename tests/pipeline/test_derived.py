"""Settings that the arm's choices do not use change no key; those that they use do."""

import pytest

from cwpo.pipeline.arms import expand


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("lora.enabled=false", "lora.r=8,4"),
        ("lora.enabled=false", "lora.dropout=0.05,0.1"),
        ("weighting=c1", "weighting.scale=1,2"),
        ("objective=dpo", "objective.flip_rate=0,0.2"),
        ("gold=oracle", "gold.temperature=1,2"),
        ("gold=judge", "gold.batch_size=32,16"),
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
