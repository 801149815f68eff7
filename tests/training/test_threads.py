"""Threads that share a batch's parts: the same update as one after the other, the same bits every time."""

import pytest
import torch
from tiny import PAD, parameters, save, tiny_model
from training import test_preference as made

from cwpo.models.annotator import new_annotator
from cwpo.models.pair_scores import score_gaps
from cwpo.models.side_by_side import SMALL, threads_of
from cwpo.runtime import in_threads

BUDGET = 12  # tokens: a batch has several parts
STEPS = {"micro_batch_size": 8, "epochs": 3, "learning_rate": 0.1}


@pytest.fixture
def threads():
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def preference(folder):
    return made.preference(folder, made.pairs(pair_id=made.NAMES), budget=BUDGET, **STEPS)


def sft(folder, model=None):
    return made.sft(folder, 8, model, BUDGET, **STEPS)


def annotator(folder):
    model = new_annotator(save(tiny_model("llama"), folder / "start"), None, pad_id=PAD, head_std=0.1, seed=0)
    return made.bradley_terry(folder, made.TEXTS[:8], model, BUDGET, **STEPS)


def trained(trainer):
    trainer.train()
    return trainer, parameters(trainer.model), [row for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("make", [preference, sft, annotator])
def test_threads_give_the_update_of_one_thread(tmp_path, threads, make):
    threads(1)
    alone, right, curve = trained(make(tmp_path))
    threads(3)
    (together, weights, logs), (_, again, _) = trained(make(tmp_path)), trained(make(tmp_path))
    assert (alone._crew, together._crew) == (1, 3)
    assert torch.get_num_threads() == 3
    torch.testing.assert_close(weights, right, rtol=1e-4, atol=1e-6)
    assert torch.equal(weights, again)
    assert [list(row) for row in logs] == [list(row) for row in curve]
    for row, expected in zip(logs, curve, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_model_with_dropout_draws_as_in_one_thread(tmp_path, threads):
    """OPT trains with dropout: threads would draw its random numbers in an order that varies."""
    threads(1)
    _, right, _ = trained(sft(tmp_path, tiny_model("opt", dropout=0.5)))
    threads(3)
    trainer, weights, _ = trained(sft(tmp_path, tiny_model("opt", dropout=0.5)))
    assert trainer._crew == 1
    torch.testing.assert_close(weights, right, rtol=1e-4, atol=1e-6)


def test_an_infinite_loss_in_a_thread_names_its_pairs(tmp_path, threads):
    threads(3)
    trainer = preference(tmp_path)
    trainer.train_dataset[3]["chosen_logp"] = float("inf")
    with pytest.raises(FloatingPointError, match="in the loss of pair pair3"):
        trainer.train()


def test_scores_are_those_of_one_thread(tmp_path, threads):
    trainer = annotator(tmp_path)
    score = [trainer.model, trainer.train_dataset * 4, PAD, 64, BUDGET]
    threads(1)
    right = score_gaps(*score)
    threads(3)
    torch.testing.assert_close(score_gaps(*score), right)


def test_only_small_models_that_keep_no_state_are_shared_by_threads(threads):
    threads(3)
    model = tiny_model("llama")
    assert threads_of(model) == 3
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert threads_of(model) == 1
    large = tiny_model("llama")
    assert threads_of(large) == 3
    large.lm_head.weight = torch.nn.Parameter(torch.empty(1, SMALL))
    assert threads_of(large) == 1


def test_threads_compute_as_the_caller_does(threads):
    threads(2)

    def state(item):
        a = torch.ones(2, 2)
        return item, torch.is_grad_enabled(), (a @ a).dtype, torch.get_num_threads()

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert in_threads(state, [1, 2, 3], 2) == [(i, False, torch.bfloat16, 1) for i in (1, 2, 3)]
    assert in_threads(state, [1], 2) == [(1, True, torch.float32, 1)]
    assert torch.get_num_threads() == 2
