"""KL(policy || reference) and the fit of the training labels, against plain transformers, one sequence at a time."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from cwpo.data import batching
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.models import logprobs, packed
from cwpo.pipeline.arms import expand
from cwpo.pipeline.record import record
from cwpo.results import DETAIL_COLUMNS, REWARD_COLUMNS, RunRewards, read_rows, rewards_file, write_rows
from cwpo.stages.base import Work
from cwpo.stages.divergence import _train_accuracy
from cwpo.store.store import Store
from cwpo.tracking import Tracker


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An arm whose training set is large enough to move, its store, and a place for its rows."""
    place = tmp_path_factory.mktemp("divergence")
    words = ["method=human", "alignment.learning_rate=3e-3", "alignment.precision=float32"]
    words += ["generation.max_new_tokens=3", f"store={place}"]
    (arm,) = expand([*SMOKE, *words])
    run_arms([arm], Settings.of(arm.cfg))
    return arm, Store(place), place / "results"


@functools.cache
def loaded(folder):
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def logp(folder, prompt: str, response: str, ended: bool) -> float:
    """log pi(response given prompt) by one forward pass over the whole text."""
    tokenizer, model = loaded(folder)
    before = tokenizer(prompt)["input_ids"]
    ids = tokenizer(f"{prompt} {response}".rstrip())["input_ids"] + [tokenizer.eos_token_id] * ended
    logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logps[i - 1, ids[i]]) for i in range(len(before), len(ids)))


def ratio(arm, store, prompt: str, response: str, ended: bool = True) -> float:
    ours, reference = (arm.nodes[name].folder(store) / "model" for name in ("align", "sft"))
    return logp(ours, prompt, response, ended) - logp(reference, prompt, response, ended)


def test_responses_are_scored_within_the_token_budget(finished, tmp_path, monkeypatch):
    """64 responses of 512 tokens at once would have 20 GB of logits under Qwen2.5's vocabulary."""
    arm, store, _ = finished
    node, asked = arm.nodes["divergence"], []
    whole = logprobs.score_sequences

    def scored(*args, token_budget=None, **settings):
        asked.append(token_budget)
        return whole(*args, token_budget=token_budget, **settings)

    monkeypatch.setattr(logprobs, "score_sequences", scored)
    parents = {role: each.folder(store) / each.stage.output for role, each in node.parents.items()}
    with Tracker(tmp_path, stage="divergence", key="k", group="g", config={}) as tracker:
        work = Work(tmp_path, OmegaConf.create(node.config), parents, tracker, token_budget=40)
        metrics = node.stage.run(work)
    assert asked == [40, 40]
    done = json.loads((node.folder(store) / "metrics.json").read_text())
    assert metrics["kl"] == pytest.approx(done["kl"], abs=1e-5)


def test_kl_is_the_mean_log_ratio_of_the_policys_own_tokens(finished):
    arm, store, _ = finished
    responses = pd.read_parquet(arm.nodes["generate"].folder(store) / "responses.parquet")
    assert set(responses["truncated"]) == {True, False}
    by_hand = [ratio(arm, store, row.prompt, row.response, ended=not row.truncated) for row in responses.itertuples()]
    kl = pd.read_parquet(arm.nodes["divergence"].folder(store) / "kl.parquet").set_index("prompt_id")["kl"]
    np.testing.assert_allclose(kl[responses["prompt_id"]], by_hand, atol=1e-4)
    metrics = json.loads((arm.nodes["divergence"].folder(store) / "metrics.json").read_text())
    assert metrics["kl"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert metrics["kl_se"] == pytest.approx(np.std(by_hand, ddof=1) / len(by_hand) ** 0.5, abs=1e-4)


def test_train_accuracy_counts_the_labels_that_the_policy_has_learned(finished):
    arm, store, _ = finished
    pairs = pd.read_parquet(arm.nodes["weight"].folder(store) / "preferences.parquet")
    fits = [
        ratio(arm, store, row.prompt, row.chosen) > ratio(arm, store, row.prompt, row.rejected)
        for row in pairs.itertuples()
    ]
    metrics = json.loads((arm.nodes["divergence"].folder(store) / "metrics.json").read_text())
    assert metrics["train_accuracy"] == pytest.approx(np.mean(fits))
    assert 0.5 < metrics["train_accuracy"] < 1


def test_a_policy_that_equals_the_reference_has_learned_no_label(monkeypatch):
    chosen, rejected = -200 * torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(50)]
    logps = {"chosen_logp": chosen.double().numpy(), "rejected_logp": rejected.double().numpy()}
    tables = {
        "weight": pd.DataFrame({"pair_id": names, "prompt": "p", "chosen": "c", "rejected": "r"}),
        "reference": pd.DataFrame({"pair_id": names, **logps}),
    }
    monkeypatch.setattr(batching, "encode_pairs", lambda *texts: [])
    monkeypatch.setattr(packed, "score_pairs", lambda *given: (chosen, rejected))
    work = SimpleNamespace(table=lambda role, file: tables[role], tokens=None)
    assert _train_accuracy(work, None, SimpleNamespace(pad_token_id=0)) == 0


def test_both_enter_the_result_files(finished):
    arm, store, results = finished
    record([arm], store, results, experiment="custom", whole=True)
    (row,) = read_rows(results / "toy" / "details.csv", DETAIL_COLUMNS).to_dict("records")
    metrics = json.loads((arm.nodes["divergence"].folder(store) / "metrics.json").read_text())
    assert (row["kl"], row["kl_se"]) == pytest.approx((metrics["kl"], metrics["kl_se"]), abs=1e-6)
    assert row["train_accuracy"] == pytest.approx(metrics["train_accuracy"], abs=1e-6)
    (line,) = read_rows(rewards_file(results / "toy", "custom"), REWARD_COLUMNS).to_dict("records")
    assert RunRewards.parse(line).kl.mean() == pytest.approx(metrics["kl"], rel=1e-4)
    # another machine's rewards, left by a kill between the files, give way
    path, right = rewards_file(results / "toy", "custom"), line["rewards"]
    write_rows(path, pd.DataFrame([line | {"rewards": " ".join(["7"] * len(right.split()))}]), REWARD_COLUMNS)
    record([arm], store, results, experiment="custom", whole=False)
    assert read_rows(path, REWARD_COLUMNS)["rewards"].tolist() == [right]
