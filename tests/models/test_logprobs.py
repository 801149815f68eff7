"""Sequence log-probs against a sum written as a loop, for every architecture; loading without dropout."""

import pytest
import torch
from tiny import BOS, EOS, FAMILIES, PAD, tiny_model

from cwpo.data.batching import collate_sequences
from cwpo.models.logprobs import response_lengths, response_logits, response_logps, score_sequences

# (ids, where the response starts): responses of 2, 4 and 1 tokens, EOS included
ROWS = [([BOS, 5, 6, 7, EOS], 3), ([BOS, 8, 9, 10, 11, EOS], 2), ([BOS, 5, 8, EOS], 3)]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return tiny_model(request.param)


@torch.no_grad()
def by_hand(model, ids: list[int], start: int) -> float:
    logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return sum(torch.log_softmax(logits[t - 1], dim=0)[ids[t]].item() for t in range(start, len(ids)))


def batch_logps(model, rows, pad_id: int = PAD) -> list[float]:
    with torch.no_grad():
        return response_logps(model, **collate_sequences(rows, pad_id)).tolist()


def test_a_log_prob_is_the_sum_over_response_tokens_and_eos(model):
    expected = [by_hand(model, ids, start) for ids, start in ROWS]
    assert batch_logps(model, ROWS) == pytest.approx(expected, rel=1e-5)
    assert max(expected) < -0.1 and len(set(expected)) == 3


def test_a_log_prob_does_not_depend_on_the_pad_token(model):
    assert batch_logps(model, ROWS, pad_id=EOS) == pytest.approx(batch_logps(model, ROWS, pad_id=PAD), rel=1e-5)


def test_prompt_tokens_are_never_counted(model):
    # log p(abc | s) = log p(a | s) + log p(bc | sa): nothing counted twice, nothing left out
    (whole,) = batch_logps(model, [([BOS, 8, 9, 10, EOS], 1)])
    (head,) = batch_logps(model, [([BOS, 8], 1)])
    (tail,) = batch_logps(model, [([BOS, 8, 9, 10, EOS], 2)])
    assert whole == pytest.approx(head + tail, rel=1e-5)


def test_without_a_prompt_the_first_token_is_what_the_rest_is_given(model):
    # A tokenizer without BOS and an empty prompt: nothing predicts token 0.
    rows = [([8, 9, 10, EOS], 0), ([8, 9, EOS], 1)]
    assert batch_logps(model, rows) == pytest.approx(
        [by_hand(model, [8, 9, 10, EOS], 1), by_hand(model, [8, 9, EOS], 1)]
    )


def test_the_head_is_run_on_response_columns_only(model):
    targets, logits = response_logits(model, **collate_sequences([ROWS[0], ROWS[2]], PAD))
    assert targets.tolist() == [[7, EOS], [EOS, -100]]
    assert logits.shape[:2] == (2, 2)


def test_response_lengths_count_eos():
    assert response_lengths(collate_sequences(ROWS, PAD)["labels"]).tolist() == [2, 4, 1]


def test_scores_come_in_the_given_order(model):
    rows = [ROWS[1], ROWS[2], ROWS[0], ([BOS, 4, EOS], 2), ROWS[1]]
    expected = [by_hand(model, ids, start) for ids, start in rows]
    assert score_sequences(model, rows, PAD, batch_size=2).tolist() == pytest.approx(expected, rel=1e-5)


def test_scores_are_taken_without_dropout_and_without_gradients():
    noisy = tiny_model("opt", dropout=0.5).train()
    scores = score_sequences(noisy, ROWS, PAD)
    assert scores.tolist() == pytest.approx(score_sequences(tiny_model("opt"), ROWS, PAD).tolist())
    assert not scores.requires_grad
