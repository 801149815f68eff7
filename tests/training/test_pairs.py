"""Rows that PreferenceTrainer refuses before anything is computed, each in a line that names row, value and fix."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import arguments, parameters, tiny_model, tiny_tokenizer
from training.test_preference import pairs, preference, trained

from cwpo.errors import InputError
from cwpo.training.pairs import encoded_rows
from cwpo.training.preference import PreferenceTrainer

CONFIG = tiny_model("llama").config


def changed(row: int, **values):
    return [r | values if i == row else r for i, r in enumerate(pairs(4))]


@pytest.mark.parametrize(
    "value", [None, 3, ["text"], [{"role": "user"}], [{"role": "user", "content": 3}], [], "\ud800", float("nan")]
)
def test_a_text_that_is_none(value):
    with pytest.raises(InputError, match=r"column chosen: 1 of 4 values are neither text nor .* row 2 has") as told:
        encoded_rows(tiny_tokenizer(), CONFIG, changed(2, chosen=value))
    assert repr(value) in str(told.value)


def test_messages_may_be_those_of_sharegpt():
    plain, sharegpt = [{"role": "user", "content": "ask me"}], [{"from": "human", "value": "ask me"}]
    both = (encoded_rows(tiny_tokenizer(), CONFIG, changed(2, prompt=prompt)) for prompt in (plain, sharegpt))
    assert next(both) == next(both)


def test_responses_that_repeat_their_prompt_or_follow_a_text_are_refused():
    asked, said = [{"role": "user", "content": "ask me"}], [{"role": "assistant", "content": "good"}]
    whole = {"chosen": asked + said, "rejected": asked + said}  # as UltraFeedback has them
    with pytest.raises(InputError) as told:
        encoded_rows(tiny_tokenizer(), CONFIG, [row | whole for row in pairs(4)])
    assert [problem.split(":")[0] for problem in told.value.problems] == ["column chosen", "column rejected"]
    assert "4 of 4 responses do not begin with a message of role assistant; row 0 begins with role user" in str(
        told.value
    )
    with pytest.raises(InputError, match="column chosen: 1 of 4 responses are messages although .* as in row 2"):
        encoded_rows(tiny_tokenizer(), CONFIG, changed(2, chosen=said))
    encoded_rows(tiny_tokenizer(), CONFIG, changed(2, prompt=asked, chosen=said, rejected="bad"))


def test_all_columns_are_told_at_once():
    with pytest.raises(InputError) as told:
        encoded_rows(tiny_tokenizer(), CONFIG, changed(1, prompt=None, rejected=None))
    assert [problem.split(":")[0] for problem in told.value.problems] == ["column prompt", "column rejected"]


def test_a_pair_longer_than_the_context(tmp_path):
    long = "bread " * (CONFIG.max_position_embeddings + 5)
    with pytest.raises(
        InputError, match=rf"row 3 has \d+ tokens.*at most {CONFIG.max_position_embeddings} .*1 of 4 rows"
    ):
        preference(tmp_path, changed(3, prompt=long))


def test_a_token_beyond_the_vocabulary(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["news"])
    arguments_ = arguments(tmp_path, rows=4)
    with pytest.raises(InputError, match=r"row 1 has token 16 \(news\), beyond the model's vocabulary of 16 tokens"):
        PreferenceTrainer(tiny_model("llama"), arguments_, changed(1, chosen="news"), processing_class=tokenizer)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["news"])
    PreferenceTrainer(tiny_model("llama"), arguments_, pairs(4), processing_class=tokenizer)  # no row has it


def test_a_tokenizer_without_eos(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no EOS token"):
        PreferenceTrainer(tiny_model("llama"), arguments(tmp_path, rows=4), pairs(4), processing_class=tokenizer)


def test_the_evaluation_rows_are_checked_like_the_others(tmp_path):
    with pytest.raises(InputError, match="row 2 has None"):
        PreferenceTrainer(
            tiny_model("llama"),
            arguments(tmp_path, rows=4),
            pairs(4),
            changed(2, rejected=None),
            processing_class=tiny_tokenizer(),
        )


@pytest.mark.parametrize("format", ["torch", "numpy", "pandas", "arrow"])
def test_any_format_of_a_data_set_trains_the_same(tmp_path, format):
    rows = pairs(4, chosen_logp=[-9.0] * 4, rejected_logp=[-11.0] * 4)
    expected = trained(preference(tmp_path / "a", rows))
    assert torch.equal(trained(preference(tmp_path / "b", Dataset.from_list(rows).with_format(format))), expected)
    assert not torch.equal(expected, parameters(tiny_model("llama")))


def test_numbers_in_tensors_and_arrays_are_numbers():
    rows = changed(0, weight=torch.tensor(0.5)) + changed(1, weight=np.float32(0.25))
    encoded = encoded_rows(tiny_tokenizer(), CONFIG, rows)
    assert (encoded[0]["weight"], encoded[5]["weight"]) == (0.5, 0.25)
