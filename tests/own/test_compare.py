"""Before and after, compared by a judge."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import paper_copies
import pytest
from tiny import save, tiny_model, tiny_tokenizer

from cwpo.errors import InputError
from cwpo.models.gold import Oracle
from cwpo.models.reward_models import load_reward
from cwpo.own.compare import _add_rewards, _check_judge, _check_lengths, summary, win_rate_of
from cwpo.own.fit import Annotator


def test_ties_narrow_the_interval_of_the_win_rate():
    wins = np.repeat([1.0, 0.0, 0.5], [80, 40, 880])
    assert win_rate_of(wins) == pytest.approx(
        (0.52, 0.5 + 0.12 * (0.578 - 0.5), 0.5 + 0.12 * (0.745 - 0.5), 1000), abs=1e-3
    )
    assert win_rate_of(np.full(3, 0.5)) == (0.5, 0.5, 0.5, 3)


def test_a_judge_too_short_for_a_response_is_refused_before_sampling(tmp_path):
    folder = save(tiny_model("llama", labels=1, max_position_embeddings=12), tmp_path)
    gold = Annotator("bt", [], tiny_tokenizer())
    prompts = ["ask", "tell me about bread"]  # 2 and 5 tokens with BOS
    _check_judge(SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=7), gold, prompts)
    with pytest.raises(InputError, match="at most 12 tokens, and 1 of 2 prompts leave no room for max_new_tokens=8"):
        _check_judge(SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=8), gold, prompts)


def test_a_reward_model_whose_turns_do_not_end_in_eos_may_judge_messages(tmp_path):
    folder = paper_copies.trl_qwen(tmp_path)
    paper_copies.qwen_files(folder)  # turns end in <|im_end|>, EOS is <|endoftext|>
    gold = load_reward(str(folder), None, device="cpu", batch_size=2)
    cfg = SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=8)
    _check_judge(cfg, gold, [[{"role": "user", "content": "Why?"}]])


def test_a_prompt_that_a_judge_of_the_synthetic_world_cannot_score_is_refused_before_sampling():
    with pytest.raises(InputError, match="^prompts=p.jsonl: 'Why.' is no prompt of the synthetic world"):
        _check_judge(SimpleNamespace(prompts="p.jsonl"), Oracle(), ["Why?"])


def test_a_judge_that_reads_more_tokens_than_the_policies_is_refused_by_its_own_count(tmp_path):
    folder = save(tiny_model("llama", labels=1, max_position_embeddings=12), tmp_path)
    cfg = SimpleNamespace(gold=str(folder), revision=None, max_new_tokens=4)
    tokenizer = tiny_tokenizer()
    gold = SimpleNamespace(
        tokenizer=tokenizer, lengths=lambda prompts, responses: [len(p + r) for p, r in zip(prompts, responses)]
    )
    _check_lengths(cfg, gold, [(["ask"], ["x" * 9])])
    with pytest.raises(InputError, match="at most 12 tokens, and a prompt with its response has 13 of them"):
        _check_lengths(cfg, gold, [(["ask"], ["x" * 9]), (["ask"], ["x" * 10])])
    tokenizer.model_max_length = 10  # RoBERTa's positions begin at 2
    with pytest.raises(InputError, match="at most 10 tokens, and a prompt with its response has 12 of them"):
        _check_lengths(cfg, gold, [(["ask"], ["x" * 9])])


def test_equal_responses_tie_though_they_stand_in_different_batches():
    """A judge that rounds differently in a batch with a longer text, as matrix products do."""
    table = pd.DataFrame({"prompt": ["p", "q", "r"], "before": ["yes", "no", "so"], "after": ["yes", "no", "so long"]})
    gold = SimpleNamespace(
        rewards=lambda prompts, responses: np.array([len(r) + 1e-7 * max(map(len, responses)) for r in responses])
    )
    _add_rewards(table, table["prompt"], SimpleNamespace(), gold)
    numbers = summary(table.assign(before_truncated=False, after_truncated=False))
    assert numbers["tie_rate"] == pytest.approx(2 / 3)
    assert numbers["win_rate"]["mean"] == pytest.approx(2 / 3)
