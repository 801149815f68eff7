"""Threads that share a batch's parts: the same update as one after the other, the same bits every time."""

import pytest
import torch
from tiny import arguments, parameters, tiny_model, tiny_tokenizer

from cwpo.data.batching import PairCollator, SequenceCollator, encode, encode_pairs
from cwpo.models.annotator import new_annotator
from cwpo.models.pair_scores import score_gaps
from cwpo.models.side_by_side import SMALL, threads_of
from cwpo.runtime import in_threads
from cwpo.training.bradley_terry import BradleyTerryTrainer
from cwpo.training.preference import PreferenceTrainer
from cwpo.training.sft import SFTTrainer

PROMPTS = ["tell me about bread", "ask", "tell me", "ask about bridges", "bread is", "bridges is", "ask me", "me"]
CHOSEN = ["is good", "warm bridges is very good", "bread", "is warm", "very warm", "good", "is", "warm"]
REJECTED = ["is very bad cold", "bad", "cold bread", "very bad", "cold", "bad bad bad", "good", "is bad"]
BUDGET = 12  # tokens: a batch has several parts


@pytest.fixture
def threads():
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def preference(folder, **changes):
    rows = zip(PROMPTS, CHOSEN, REJECTED, strict=True)
    pairs = [{"prompt": p, "chosen": c, "rejected": r, "weight": 0.1 * (i + 1)} for i, (p, c, r) in enumerate(rows)]
    how = {"processing_class": tiny_tokenizer(), "token_budget": BUDGET}
    return PreferenceTrainer(tiny_model("llama"), args(folder), pairs, **how | changes)


def args(folder):
    return arguments(folder, rows=len(PROMPTS), micro_batch_size=len(PROMPTS), batch_size=len(PROMPTS), epochs=3)


def sft(folder, model=None):
    tokenizer = tiny_tokenizer()
    rows = [{"ids": ids, "start": start} for ids, start in encode(tokenizer, PROMPTS, CHOSEN)]
    collator = SequenceCollator(tokenizer.pad_token_id)
    model = model or tiny_model("llama")
    return SFTTrainer(model, args(folder), train_dataset=rows, data_collator=collator, token_budget=BUDGET)


def annotator(folder):
    tokenizer = tiny_tokenizer()
    rows = encode_pairs(tokenizer, PROMPTS, CHOSEN, REJECTED)
    path, pad_id = tiny_model("llama").save_pretrained(folder / "start") or folder / "start", tokenizer.pad_token_id
    model = new_annotator(path, None, pad_id=pad_id, head_std=0.1, seed=0)
    how = {"train_dataset": rows, "data_collator": PairCollator(pad_id), "token_budget": BUDGET}
    return BradleyTerryTrainer(model, args(folder), **how)


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
    for row in trainer.train_dataset:
        row["pair_id"] = "pair " + str(row["weight"])[:3]
    trainer.train_dataset[3]["chosen_logp"] = float("inf")
    with pytest.raises(FloatingPointError, match=r"in the loss of pair pair 0\.4"):
        trainer.train()


def test_scores_are_those_of_one_thread(tmp_path, threads):
    trainer, tokenizer = annotator(tmp_path), tiny_tokenizer()
    rows = encode_pairs(tokenizer, PROMPTS * 4, CHOSEN * 4, REJECTED * 4)
    score = [trainer.model, rows, tokenizer.pad_token_id, 64, BUDGET]
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
