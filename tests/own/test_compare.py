"""Before and after, compared by a judge."""

from types import SimpleNamespace

import pytest
from tiny import save, tiny_model, tiny_tokenizer

from cwpo.errors import InputError
from cwpo.own.compare import _check_judge


def test_a_judge_too_short_for_a_response_is_refused_before_sampling(tmp_path):
    folder = save(tiny_model("llama", labels=1, max_position_embeddings=12), tmp_path)
    gold = SimpleNamespace(tokenizer=tiny_tokenizer())
    prompts = ["ask", "tell me about bread"]  # 2 and 5 tokens with BOS
    _check_judge(SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=7), gold, prompts)
    with pytest.raises(
        InputError, match="at most 12 tokens, and 1 of 2 prompts leave no room there for max_new_tokens=8"
    ):
        _check_judge(SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=8), gold, prompts)
