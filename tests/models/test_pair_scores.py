"""Scores of packed pairs beside those of their sequences alone."""

import pytest
import torch
from architectures import architecture
from models.test_packed import pair
from tiny import tiny_model
from transformers import AutoModelForSequenceClassification

from cwpo.data.batching import PairCollator
from cwpo.data.packing import pack_pairs
from cwpo.models.annotator import response_scores
from cwpo.models.pair_scores import pair_scores, reads_packed, score_gaps


def rows(longest: int = 0) -> list[dict]:
    generator = torch.Generator().manual_seed(3)

    def ids(size: int) -> list[int]:
        return torch.randint(4, 16, (size,), generator=generator).tolist()

    prompts = [ids(3 + i % 4 + longest * (i == 2)) for i in range(7)]
    return [pair(p, [*ids(1 + i % 5), 2], [*ids(1 + 2 * i % 3), 2]) for i, p in enumerate(prompts)]


def plain_scores(model, pairs):
    batch = PairCollator(0)(pairs)
    return response_scores(model, batch["input_ids"], batch["attention_mask"])


@pytest.mark.parametrize("full", [0.0, 2.0])
@pytest.mark.parametrize("family", ["opt", "qwen2", "llama"])
def test_scores_and_gradients_are_those_of_plain_sequences(family, full):
    model, pairs = tiny_model(family, labels=1, spread=4.0), rows()
    assert reads_packed(model, pairs)
    found = []
    for scores in (plain_scores(model, pairs), pair_scores(model, pack_pairs(pairs, full))):
        model.zero_grad()
        (scores * torch.linspace(-1, 1, len(scores))).sum().backward()
        found.append([scores.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for plain, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bloom", "mpt"])
def test_a_model_that_reads_packed_pairs_otherwise_gets_them_alone(name):
    """ALiBi counts positions by itself."""
    config = architecture(name).config
    config.num_labels, config.pad_token_id = 1, 0
    torch.manual_seed(0)
    model, pairs = AutoModelForSequenceClassification.from_config(config).eval(), rows(longest=20)
    assert not reads_packed(model, pairs)
    chosen, rejected = plain_scores(model, pairs).detach().double().chunk(2)
    torch.testing.assert_close(score_gaps(model, pairs, 0, 4, 64), chosen - rejected, rtol=1e-4, atol=1e-5)


def test_a_window_that_cuts_the_longest_pair_is_noticed():
    model = tiny_model("qwen2", labels=1, use_sliding_window=True, sliding_window=8, layer_types=["sliding_attention"])
    pairs = rows(longest=20)
    assert not reads_packed(model, pairs)
    chosen, rejected = plain_scores(model, pairs).detach().double().chunk(2)
    torch.testing.assert_close(score_gaps(model, pairs, 0, 4, 64), chosen - rejected, rtol=1e-4, atol=1e-4)


def test_pairs_that_share_no_prompt_are_not_packed():
    pairs = rows()
    pairs[3]["rejected_ids"] = [5, *pairs[3]["rejected_ids"][1:]]
    pairs[3]["chosen_ids"] = [6, *pairs[3]["chosen_ids"][1:]]
    model = tiny_model("llama", labels=1)
    assert not reads_packed(model, pairs) and not reads_packed(model, [])
    chosen, rejected = plain_scores(model, pairs).detach().double().chunk(2)
    torch.testing.assert_close(score_gaps(model, pairs, 0, 4, 64), chosen - rejected, rtol=1e-4, atol=1e-4)
