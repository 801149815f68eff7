"""Batches without gradients: what memory holds, and fewer rows where it runs out."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from cwpo.models.annotator import score_responses
from cwpo.models.generation import sample_responses
from cwpo.models.logprobs import score_sequences
from cwpo.models.memory import PER_LOGIT, cache_numbers, in_batches, sampling_batches

ROWS = [([1, *range(4, 4 + n)], 2) for n in (3, 9, 5, 7, 6, 4)]
TEXTS = ["ask", "tell me", "bread is", "bread is warm", "ask me about", "bridges"]


def sampled(model) -> list:
    settings = {"temperature": 1.0, "max_new_tokens": 5, "batch_size": 6}
    return sample_responses(model, tiny_tokenizer(), TEXTS, range(6), **settings)


WAYS = {
    "samples": (sampled, {}),
    "log-probs": (lambda model: score_sequences(model, ROWS, 0, 6).tolist(), {}),
    "scores": (lambda model: score_responses(model, ROWS, 0, 6).tolist(), {"labels": 1}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_that_memory_does_not_hold_is_halved_and_nothing_else_changes(way, monkeypatch):
    compute, settings = WAYS[way]
    model = tiny_model("llama", **settings)
    backbone = type(model.base_model)
    right, whole, sizes = compute(model), backbone.forward, []

    def small(self, input_ids, **rest):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(backbone, "forward", small)
    assert compute(model) == (right if way == "samples" else pytest.approx(right, abs=1e-5))
    assert sizes[:2] == [6, 3] and max(sizes[2:]) <= 3  # all batches shrink with the first


def test_a_row_that_does_not_fit_and_other_errors_are_raised():
    def fail(message):
        raise RuntimeError(message)

    of_driver = ["CUDA error: out of memory\nSearch for it", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling it"]
    for message, tried in (*((m, [3, 1]) for m in ("CUDA out of memory. Tried", *of_driver)), ("shapes differ", [3])):
        sizes: list[int] = []
        with pytest.raises(RuntimeError, match=message[:12]):
            list(in_batches([[0, 1, 2]], lambda rows, m=message, s=sizes: s.append(len(rows)) or fail(m)))
        assert sizes == tried


def test_a_gpus_free_memory_bounds_a_batch_of_samples(monkeypatch):
    model = tiny_model("llama")  # 1 layer of 2 heads of 8, keys and values: 128 bytes a token; 16 logits
    assert cache_numbers(model.config) == 32
    row = 10 * 128 + PER_LOGIT * 16
    for name, value in {"mem_get_info": (row * 4, 0), "memory_reserved": row, "memory_allocated": 0}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda device, value=value: value)
    assert [len(batch) for batch in sampling_batches(model, [10] * 7)] == [3, 3, 1]  # 0.6 of 5 rows
