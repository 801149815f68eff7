"""Online alignment: pairs sampled from the policy, judged, weighted, dropped where they say nothing; and what it learns."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import FAMILIES, arguments, parameters, tiny_model, tiny_tokenizer

import cwpo.training.online as online_module
from cwpo.data.batching import PairCollator, encode
from cwpo.errors import InputError
from cwpo.models.reward_models import rewards_within
from cwpo.stages.base import Work
from cwpo.stages.evaluate import online_quality
from cwpo.training.online import OnlineTrainer, counts
from cwpo.training.preference import PreferenceTrainer
from cwpo.weighting import scaled_sigmoid

PROMPTS = ["tell me about bread", "ask", "ask me", "bread is", "tell me", "is bread warm", "me", "bridges is"]


def goodness(prompts, responses) -> np.ndarray:
    """How often a response says good, and a little for its length: whole numbers and tenths, so that some tie."""
    return np.array([r.split().count("good") + 0.1 * min(len(r.split()), 4) for r in responses])


def online(
    tmp_path,
    *,
    family="opt",
    policy=None,
    reward=goodness,
    weights=scaled_sigmoid,
    context=None,
    per_round=1,
    **settings,
):
    """A trainer over PROMPTS; `settings` are those of `arguments`."""
    rows = [{"prompt_id": str(i), "prompt": prompt} for i, prompt in enumerate(PROMPTS)]
    return OnlineTrainer(
        policy or tiny_model(family, spread=4.0),
        arguments(tmp_path, rows=len(rows), **settings),
        rows,
        pairs=[],
        context=context,
        reward=reward,
        weights=weights,
        sampling={"temperature": 1.0, "max_new_tokens": 5, "batch_size": 3},
        batches_per_round=per_round,
        processing_class=tiny_tokenizer(),
        beta=0.5,
    )


def kept(trainer) -> list[dict]:
    return [pair for pair in trainer.pairs if not pair["dropped"]]


# --- what is sampled and trained on -------------------------------------------------------------------------------


def test_weights_and_drops_follow_the_scores(tmp_path):
    trainer = online(tmp_path, epochs=3)
    trainer.train()
    assert len(trainer.pairs) == 3 * len(PROMPTS)
    for pair in trainer.pairs:
        scores = goodness(None, [pair["response_a"], pair["response_b"]])
        assert [pair["score_a"], pair["score_b"]] == scores.tolist()
        gap = abs(scores[0] - scores[1])
        expected = "identical" if pair["response_a"] == pair["response_b"] else "tied" if gap == 0 else ""
        assert pair["dropped"] == expected
        assert pair["weight"] == pytest.approx(0 if expected else np.tanh(gap / 2))
    counted = counts(trainer.pairs)
    assert counted["sampled"] == 24 and counted["dropped_tied"] > 0
    assert counted["n_train"] == len(kept(trainer)) == 24 - counted["dropped_tied"] - counted["dropped_identical"]


def test_a_response_that_was_cut_has_no_end_to_learn(tmp_path):
    trainer = online(tmp_path)
    pair = {"prompt_id": "0", "prompt": "ask", "response_a": " good bread", "response_b": " me", "margin": 1.0}
    pair |= {"score_a": 1.0, "score_b": 0.0, "weight": 0.0, "dropped": "", "truncated_a": True, "truncated_b": False}
    (row,) = trainer._rows([pair])
    end = trainer.processing_class.eos_token_id
    assert end not in row["chosen_ids"] and row["rejected_ids"][-1] == end
    assert trainer.processing_class.decode(row["chosen_ids"], skip_special_tokens=True).split() == [
        "ask",
        "good",
        "bread",
    ]


def test_drop_reasons_by_hand():
    pair = {"weight": 0.0, "truncated_a": True, "truncated_b": False}
    rows = [pair | {"dropped": reason} for reason in ("", "tied", "", "identical", "too_long", "tied")]
    assert counts(rows) == {
        "sampled": 6,
        "n_train": 2,
        "dropped_identical": 1,
        "dropped_tied": 2,
        "dropped_too_long": 1,
        "truncated_responses": 6,
    }


def test_the_higher_score_is_chosen(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        OnlineTrainer,
        "collator",
        lambda self, rows, pad_id: PairCollator(pad_id, floats=("weight", "chosen_logp", "rejected_logp")),
    )
    plain = OnlineTrainer.row_losses
    monkeypatch.setattr(
        OnlineTrainer, "row_losses", lambda self, model, inputs: seen.append(inputs) or plain(self, model, inputs)
    )
    trainer = online(tmp_path)
    trainer.train()
    tokenizer = tiny_tokenizer()
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in seen[0]["input_ids"]]
    expected = [[], []]
    for pair in kept(trainer):
        order = "ab" if pair["score_a"] > pair["score_b"] else "ba"
        for side, texts_of_side in zip(order, expected, strict=True):
            texts_of_side.append(f"{pair['prompt']} {pair[f'response_{side}']}".strip())
    assert len(seen) == 1 and texts == expected[0] + expected[1]
    assert seen[0]["weight"].tolist() == pytest.approx([pair["weight"] for pair in kept(trainer)])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_margins_are_0(tmp_path, family):
    trainer = online(tmp_path, family=family, epochs=2)
    trainer.train()
    first, second = trainer.state.log_history[:2]
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert abs(second["rewards/margins"]) > 1e-4  # the reference stays where the policy began
    assert {"online/reward", "online/gap", "online/length", "online/dropped"} <= set(first)


def test_a_step_is_the_offline_step_on_the_kept_pairs(tmp_path, monkeypatch):
    sample = online_module.sample_responses  # PreferenceTrainer's responses all have an end
    monkeypatch.setattr(
        online_module, "sample_responses", lambda *a, **k: [said | {"truncated": False} for said in sample(*a, **k)]
    )
    trainer = online(tmp_path)
    trainer.train()
    assert 0 < len(kept(trainer)) < len(PROMPTS)  # the mean is over fewer than were sampled
    rows = []
    for pair in kept(trainer):
        chosen, rejected = ("a", "b") if pair["score_a"] > pair["score_b"] else ("b", "a")
        rows.append(
            {
                "prompt": pair["prompt"],
                "chosen": pair[f"response_{chosen}"],
                "rejected": pair[f"response_{rejected}"],
                "weight": pair["weight"],
            }
        )
    offline = PreferenceTrainer(
        tiny_model(spread=4.0), arguments(tmp_path, rows=len(rows)), rows, processing_class=tiny_tokenizer(), beta=0.5
    )
    offline.train()
    before = parameters(tiny_model(spread=4.0))
    step = parameters(trainer.model) - before
    assert step.norm() > 1e-3
    torch.testing.assert_close(step, parameters(offline.model) - before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_updates_do_not_depend_on_the_micro_batch(tmp_path, micro):
    # Micro-batches of one pair: some have nothing left, and their step takes place all the same.
    whole, split = (online(tmp_path, micro_batch_size=size) for size in (8, micro))
    for trainer in (whole, split):
        trainer.train()
    assert split.state.global_step == whole.state.global_step == 1
    torch.testing.assert_close(parameters(split.model), parameters(whole.model), rtol=1e-4, atol=1e-6)


def test_rounds_serve_several_steps_and_end_with_the_epoch(tmp_path):
    trainer = online(tmp_path, per_round=3, batch_size=2, epochs=2)
    trainer.train()
    assert trainer.state.global_step == 2 * 4
    table = pd.DataFrame(trainer.pairs)
    assert table.groupby("round").size().to_dict() == {0: 6, 1: 2, 2: 6, 3: 2}
    for epoch in (table["round"] < 2, table["round"] >= 2):
        assert sorted(table[epoch]["prompt"]) == sorted(PROMPTS)
    twice = table.groupby("prompt_id")["response_a"].nunique()
    assert (twice == 2).any()  # other rounds draw other responses


@pytest.mark.soak
def test_the_policy_learns_to_say_what_is_rewarded(tmp_path):
    trainer = online(tmp_path, epochs=60, optimizer="adamw_torch", learning_rate=0.01)
    trainer.train()
    table = pd.DataFrame(trainer.pairs)
    said = table["response_a"] + " " + table["response_b"]
    rate = said.str.split().map(lambda words: words.count("good") / 2).groupby(table["round"]).mean()
    assert rate.tail(10).mean() > rate.head(10).mean() + 1


def test_nothing_to_learn_changes_nothing(tmp_path):
    trainer = online(tmp_path, reward=lambda prompts, responses: np.zeros(len(responses)), epochs=2)
    trainer.train()
    assert counts(trainer.pairs)["n_train"] == 0 and trainer.state.global_step == 2
    assert torch.equal(parameters(trainer.model), parameters(tiny_model(spread=4.0)))


def test_texts_too_long_are_dropped(tmp_path):
    trainer = online(tmp_path, context=7)
    trainer.train()
    tokenizer = tiny_tokenizer()
    dropped = 0
    for pair in trainer.pairs:
        both = [pair["response_a"], pair["response_b"]]
        cut = [pair["truncated_a"], pair["truncated_b"]]
        encoded = encode(tokenizer, [pair["prompt"]] * 2, both)
        longest = max(len(ids) - unfinished for (ids, _), unfinished in zip(encoded, cut, strict=True))
        assert (pair["dropped"] == "too_long") == (longest > 7 and both[0] != both[1])
        dropped += pair["dropped"] == "too_long"
    assert 0 < dropped < len(trainer.pairs)


def test_several_processes_are_refused(tmp_path):
    with pytest.raises(InputError, match="one process, not in 2"):
        OnlineTrainer(
            None,
            SimpleNamespace(world_size=2),
            [],
            pairs=[],
            context=None,
            reward=goodness,
            weights=scaled_sigmoid,
            sampling={},
            batches_per_round=1,
            processing_class=None,
        )


# --- rewards ------------------------------------------------------------------------------------------------------


def lengths(prompts, responses) -> list[int]:
    return [len(ids) for ids, _ in encode(tiny_tokenizer(), prompts, responses)]


def test_a_text_beyond_the_rewards_context_has_no_score():
    model = SimpleNamespace(lengths=lengths, rewards=lambda p, r: np.array([float(len(text)) for text in r]))
    # <s> ask + words + </s>: 3, 5 and 4 tokens
    scores = rewards_within(4, model, ["ask"] * 3, ["", "very good", "bad"])
    assert scores[[0, 2]].tolist() == [0.0, 3.0] and np.isnan(scores[1])
    assert rewards_within(None, model, ["ask"], ["very good"]).tolist() == [9.0]
    assert np.isnan(rewards_within(2, model, ["ask"], ["bad"])).all()


def test_a_broken_reward_stops_the_run():
    model = SimpleNamespace(lengths=lengths, rewards=lambda p, r: np.array([np.nan] * len(r)))
    with pytest.raises(FloatingPointError, match="1 of 2 rewards"):
        rewards_within(4, model, ["ask", "ask"], ["bad", "very good bread"])


# --- measures -----------------------------------------------------------------------------------------------------


def test_quality_of_online_labels_by_hand(tmp_path):
    rows = [  # prompt, gold of a and b, scores, weight
        ("p", 2.0, 1.0, 0.5, 0.1, 1.0, ""),  # right, gap 1
        ("p", 0.0, 3.0, 0.5, 0.1, 0.5, ""),  # wrong, gap 3
        ("p", 1.0, 1.0, 0.1, 0.2, 0.3, ""),  # gold is undecided
        ("p", 0.0, 4.0, 0.1, 0.2, 0.2, ""),  # right, gap 4
        ("p", 9.0, 1.0, 0.2, 0.2, 0.0, "tied"),
    ]
    names = ["prompt", "response_a", "response_b", "score_a", "score_b", "weight", "dropped"]
    pd.DataFrame([(*r[:1], str(r[1]), str(r[2]), *r[3:]) for r in rows], columns=names).to_parquet(
        tmp_path / "responses.parquet"
    )
    gold = SimpleNamespace(rewards=lambda prompts, responses: np.array([float(r) for r in responses]))
    quality = online_quality(Work(tmp_path, None, {"online_align": tmp_path}, tracker=None), gold)
    assert quality["n_train"] == 4 and quality["mean_weight"] == pytest.approx(0.5)
    assert quality["label_accuracy_gold"] == pytest.approx(2 / 3)
    # M = (1 * 1 - .5 * 3 + .2 * 4) / (1 * 1 + .5 * 3 + .2 * 4)
    assert quality["margin_agreement"] == pytest.approx(0.3 / 3.3)
