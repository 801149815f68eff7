"""The world's baselines lie in the regime of real models, on a development seed; a quarter of an hour, so marked slow."""

import pandas as pd
import pytest

from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand
from cwpo.pipeline.record import metrics
from cwpo.store.store import Store

UNFINISHED = 0.02  # share of responses without an end that is still accepted
FITS_NOISE = 0.05  # a policy agrees with its own labels by so much more than these agree with gold


@pytest.fixture(scope="module")
def human(tmp_path_factory) -> pd.DataFrame:
    store = tmp_path_factory.mktemp("store")
    words = ["method=human", "pair=opt_small,qwen_mid", "data=harmless,helpful,hh_rlhf,tldr,ufb"]
    words += ["operating_point=matched,own_best", f"store={store}", f"results={store}"]
    arms = expand(words, seeds=[1000])
    run_arms(arms, Settings.of(arms[0].cfg), jobs=2)
    rows = [
        {
            "point": arm.cfg.operating_point,
            "cell": f"{arm.cfg.pair.name} {arm.cfg.data.name}",
            **metrics(arm.nodes["evaluate"], Store(store)),
            **metrics(arm.nodes["divergence"], Store(store)),
        }
        for arm in arms
    ]
    return pd.DataFrame(rows).set_index(["point", "cell"])


@pytest.mark.slow
def test_human_beats_its_sft_model_in_every_cell(human):
    assert len(human) == 20
    assert (human["gra"] > 0.5).all()


@pytest.mark.slow
def test_responses_end(human):
    assert (human[["truncated_share", "truncated_share_sft"]] <= UNFINISHED).all(axis=None)


@pytest.mark.slow
def test_models_fit_label_noise_at_the_best_update_size(human):
    best = human.loc["own_best"]
    assert (best["train_accuracy"] - best["human_gold_agreement"]).mean() >= FITS_NOISE
