"""The frozen world keeps the annotator-level facts it was fitted to; minutes, so marked slow."""

import pandas as pd
import pytest

from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand
from cwpo.pipeline.record import metrics
from cwpo.report.tables.annotators import TARGETS
from cwpo.store.store import Store


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> pd.DataFrame:
    store = tmp_path_factory.mktemp("store")
    arms = expand(
        ["until=assess", "data=harmless,helpful,hh_rlhf", "human_fraction=0.1,0.3,0.5", f"store={store}"],
        seeds=[0, 1, 2],
    )
    run_arms(arms, Settings.of(arms[0].cfg))
    rows = [
        {"data": made.cfg.data.name, "fraction": made.cfg.human_fraction, **metrics(made.nodes["assess"], Store(store))}
        for made in arms
    ]
    return pd.DataFrame(rows)


@pytest.mark.slow
@pytest.mark.parametrize("fact", TARGETS)
def test_fact_lies_in_its_accepted_range(facts, fact):
    _, _, low, high = TARGETS[fact]
    assert low <= facts[facts["fraction"] == 0.3][fact].mean() <= high


@pytest.mark.slow
def test_people_agree_with_gold_as_in_the_literature_on_every_data_set(facts):
    assert facts.groupby("data")["human_gold_agreement"].mean().between(0.63, 0.77).all()


@pytest.mark.slow
def test_accuracy_rises_with_the_labels_and_flattens(facts):
    """From 10 to 30 % it rises; from 30 to 50 % no steeper, and at most within what 9,000 pairs can tell it falls."""
    by_fraction = facts.groupby("fraction")["accuracy_human"].mean()
    error = (0.25 / 9000) ** 0.5
    assert by_fraction[0.1] + 2 * error < by_fraction[0.3]
    later = by_fraction[0.5] - by_fraction[0.3]
    assert -2 * error < later < by_fraction[0.3] - by_fraction[0.1] + 0.01
