"""Texts to token ids to padded tensors, checked against tensors written out by hand."""

import pytest
import torch
from tiny import BOS, EOS, tiny_tokenizer

from cwpo.data.batching import PairCollator, collate_sequences, encode, encode_pairs, encode_prompts, fill_budget, pad

BREAD, IS, GOOD = (tiny_tokenizer().convert_tokens_to_ids(word) for word in ("bread", "is", "good"))
SHORT, LONG = ([1, 2, 9], 1), ([1, 5, 6, 9], 2)


def lists(batch: dict[str, torch.Tensor]) -> dict[str, list]:
    return {name: values.tolist() for name, values in batch.items()}


def test_sequences_as_in_the_docstring():
    assert lists(collate_sequences([SHORT, LONG], pad_id=0)) == {
        "input_ids": [[1, 2, 9, 0], [1, 5, 6, 9]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1]],
        "labels": [[-100, 2, 9, -100], [-100, -100, 6, 9]],
    }


def test_a_budget_as_in_the_docstring():
    assert fill_budget([3, 9, 8, 2], 18) == [[1, 2], [0, 3]]


def test_the_pair_collator_puts_chosen_rows_first():
    rows = [
        {"chosen_ids": [1, 2, 9], "chosen_start": 1, "rejected_ids": [1, 3, 3, 9], "rejected_start": 1, "weight": 0.5},
        {"chosen_ids": [1, 7, 4, 9], "chosen_start": 2, "rejected_ids": [1, 7, 9], "rejected_start": 2, "weight": 2},
    ]
    batch = PairCollator(0, floats=("weight",))(rows)
    assert lists(batch) == {
        "input_ids": [[1, 2, 9, 0], [1, 7, 4, 9], [1, 3, 3, 9], [1, 7, 9, 0]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]],
        "labels": [[-100, 2, 9, -100], [-100, -100, 4, 9], [-100, 3, 3, 9], [-100, -100, 9, -100]],
        "weight": [0.5, 2.0],
    }
    assert batch["weight"].dtype == torch.float32
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


@pytest.mark.parametrize(("side", "expected"), [("right", [[1, 0], [2, 3]]), ("left", [[0, 1], [2, 3]])])
def test_padding_on_either_side(side, expected):
    assert pad([[1], [2, 3]], 0, side=side).tolist() == expected


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>"])
def test_a_sequence_is_bos_prompt_response_and_one_eos(template):
    assert encode(tiny_tokenizer(template), ["bread is"], ["good"]) == [([BOS, BREAD, IS, GOOD, EOS], 3)]


def test_a_tokenizer_without_bos_gets_none():
    assert encode(tiny_tokenizer("$A"), ["bread is"], ["good"]) == [([BREAD, IS, GOOD, EOS], 2)]


def test_a_response_that_ends_in_eos_already_gets_no_second_one():
    assert encode(tiny_tokenizer(), ["bread is"], ["good </s>"]) == [([BOS, BREAD, IS, GOOD, EOS], 3)]


def test_an_empty_response_is_its_eos():
    assert encode(tiny_tokenizer(), ["bread"], [""]) == [([BOS, BREAD, EOS], 2)]


def test_prompts_and_responses_must_be_as_many():
    with pytest.raises(ValueError):
        encode(tiny_tokenizer(), ["bread", "bread"], ["good"])


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>"])
def test_a_prompt_is_left_open(template):
    assert encode_prompts(tiny_tokenizer(template), ["bread is", "bread"]) == [[BOS, BREAD, IS], [BOS, BREAD]]


def test_a_bos_that_is_also_the_eos_is_kept_on_an_empty_prompt():
    tokenizer = tiny_tokenizer("</s> $A")  # as OPT does
    assert encode_prompts(tokenizer, ["", "bread"]) == [[EOS], [EOS, BREAD]]


def test_pairs_become_rows_with_their_numbers():
    rows = encode_pairs(tiny_tokenizer(), ["bread"], ["is good"], ["is"], weight=[0.25])
    assert rows == [
        {
            "chosen_ids": [BOS, BREAD, IS, GOOD, EOS],
            "chosen_start": 2,
            "rejected_ids": [BOS, BREAD, IS, EOS],
            "rejected_start": 2,
            "weight": 0.25,
        }
    ]


def test_a_number_short_is_an_error():
    with pytest.raises(ValueError):
        encode_pairs(tiny_tokenizer(), ["bread", "bread"], ["is", "is"], ["", ""], weight=[0.25])
