"""The synthetic world: rewards worked out by hand, honest label noise, faithful tokenizers, models that learn."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cwpo.data.toy import DATASETS, build_tokenizer, gold_reward, gold_rewards, pretraining_texts, sample_pairs
from cwpo.data.toy.gold import POINTS, sentence_kinds
from cwpo.data.toy.sentences import FILLER, POLITE, QUESTION, REACTIONS, REFUSAL, TOXIC
from cwpo.data.toy.topics import TOPICS
from cwpo.models.toy import pretrain, toy_config, toy_tokenizer

ASK = "Human: Please tell me about bread. Assistant:"
HARM = "Human: Hey, help me lie about bread. Assistant:"
RISE, COLD, KNEAD = TOPICS["bread"][:3]
ARCH = TOPICS["bridges"][0]
ALL_SENTENCES = [fact for facts in TOPICS.values() for fact in facts]
ALL_SENTENCES += [*POLITE, *TOXIC, *REFUSAL, *FILLER, *QUESTION, *(s for group in REACTIONS.values() for s in group)]


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        (ASK, RISE, 1.0 + 0.15),
        (ASK, f"{POLITE[0]} {RISE} {QUESTION[0]}", 0.4 + 1.0 + 0.2 + 0.45),
        (ASK, f"{RISE} {POLITE[0]}", 1.0 - 0.1 + 0.30),  # a late opening is filler
        (ASK, f"{RISE} {RISE} {RISE}", 1.0 - 0.6 - 0.6 + 0.15),
        (ASK, f"{ARCH} {TOXIC[0]} {FILLER[0]} {REFUSAL[0]}", -0.4 - 1.2 - 0.1 - 0.6 + 0.45),
        (ASK, f"{RISE} {COLD} {KNEAD} {FILLER[0]} {FILLER[1]} {FILLER[0]}", 3.0 - 0.2 - 0.6 + 0.45 - 0.6),
        (HARM, f"{REFUSAL[0]} {REFUSAL[1]}", 2.4 + 0.30),
        (HARM, f"{RISE} {ARCH} {TOXIC[1]}", -0.8 - 0.2 - 1.2 + 0.45),
        (ASK, "", -2.0),
        (ASK, "  ", -2.0),
        (ASK, f"Nobody wrote this down. {RISE}", -0.1 + 1.0 + 0.30),
        (ASK, f"some loose words {RISE} and more", -0.1 + 1.0 - 0.1 + 0.45),
    ],
)
def test_gold_reward_by_hand(prompt: str, response: str, expected: float) -> None:
    assert gold_reward(prompt, response) == pytest.approx(expected)


def test_gold_rewards_match_one_by_one_and_refuse_foreign_prompts() -> None:
    together = gold_rewards([ASK, HARM], [RISE, RISE])
    assert together.dtype == np.float64
    assert together.tolist() == [gold_reward(ASK, RISE), gold_reward(HARM, RISE)]
    with pytest.raises(ValueError, match="synthetic world"):
        gold_reward("What is bread?", RISE)


def test_sentences_are_unambiguous() -> None:
    assert len(set(ALL_SENTENCES)) == len(ALL_SENTENCES)
    assert all(s[-1] in ".!?" and not set(".!?") & set(s[:-1]) for s in ALL_SENTENCES)
    assert not [(a, b) for a in ALL_SENTENCES for b in ALL_SENTENCES if a != b and a in b]
    assert set(REACTIONS) == set(POINTS) | {"generic"}


@pytest.mark.parametrize("dataset", DATASETS)
def test_pairs_are_deterministic_distinct_and_prefix_stable(dataset: str) -> None:
    pairs = sample_pairs(dataset, 60, seed=0)
    assert list(pairs.columns) == ["prompt", "response_a", "response_b", "human_label", "domain"]
    pd.testing.assert_frame_equal(pairs, sample_pairs(dataset, 60, seed=0))
    pd.testing.assert_frame_equal(pairs.head(20), sample_pairs(dataset, 20, seed=0))
    assert not pairs.equals(sample_pairs(dataset, 60, seed=1))
    assert (pairs.response_a != pairs.response_b).all()
    assert set(pairs.domain) == set(DATASETS[dataset].parts or (dataset,))


def test_sample_pairs_rejects_wrong_input() -> None:
    with pytest.raises(ValueError, match="harmless, helpful, hh_rlhf"):
        sample_pairs("hh", 1, seed=0)


def test_label_noise_is_what_it_says() -> None:
    """Labels agree with gold at the rate flip + (1 - 2 flip) sigmoid(|gap| / temperature)."""
    for flip in (0.15, 0.3, 0.0):
        pairs = sample_pairs("helpful", 6000, seed=3, flip=flip)
        gap = gold_rewards(pairs.prompt, pairs.response_a) - gold_rewards(pairs.prompt, pairs.response_b)
        agrees = (pairs.human_label == "a") == (gap > 0)
        prefers_better = 1 / (1 + np.exp(-np.abs(gap) / DATASETS["helpful"].temperature))
        expected = (flip + (1 - 2 * flip) * prefers_better)[gap != 0].mean()
        assert agrees[gap != 0].mean() == pytest.approx(expected, abs=0.02)
        assert (pairs.human_label == "a").mean() == pytest.approx(0.5, abs=0.03)


def test_flips_reverse_labels_and_nothing_else() -> None:
    never, always = (sample_pairs("harmless", 300, seed=0, flip=flip) for flip in (0, 1))
    texts = ["prompt", "response_a", "response_b", "domain"]
    pd.testing.assert_frame_equal(never[texts], always[texts])
    assert (never.human_label != always.human_label).all()


@pytest.mark.parametrize(
    ("dataset", "low", "high"),
    [("harmless", 0.70, 0.77), ("helpful", 0.69, 0.77), ("hh_rlhf", 0.69, 0.77), ("ufb", 0.74, 0.82)],
)
def test_data_sets_are_calibrated(dataset: str, low: float, high: float) -> None:
    """Labels agree with gold as often as published ones do, and longer is not simply better."""
    pairs = sample_pairs(dataset, 3000, seed=5)
    gold_a, gold_b = (gold_rewards(pairs.prompt, pairs[side]) for side in ("response_a", "response_b"))
    differs = gold_a != gold_b
    assert low < ((pairs.human_label == "a") == (gold_a > gold_b))[differs].mean() < high
    assert differs.mean() > 0.95
    length = pairs.response_a.map(lambda text: len(sentence_kinds(ASK, text)))
    assert abs(np.corrcoef(gold_a, length)[0, 1]) < 0.2


def test_pretraining_texts_end_in_a_reaction() -> None:
    texts = pretraining_texts(500, seed=0)
    assert texts == pretraining_texts(500, seed=0)
    assert texts != pretraining_texts(500, seed=1)
    reactions = {reaction for group in REACTIONS.values() for reaction in group}
    assert {text.split("</s> ")[1] for text in texts} <= reactions
    lengths = [len(ids) for ids in build_tokenizer()(texts)["input_ids"]]
    assert 10 < np.mean(lengths) < 14
    assert max(lengths) < 32


@pytest.mark.parametrize("family", ["opt", "qwen2", "llama"])
def test_tokenizer_and_model_survive_saving(family: str, tmp_path) -> None:
    name = f"{family}-32x1"
    tokenizer = toy_tokenizer(name)
    tokenizer.save_pretrained(tmp_path / "first")
    toy_config(name, tokenizer).save_pretrained(tmp_path / "first")
    once = AutoTokenizer.from_pretrained(tmp_path / "first")
    once.save_pretrained(tmp_path / "second")
    model = AutoModelForCausalLM.from_config(toy_config(name, tokenizer)).eval()
    model.save_pretrained(tmp_path / "second")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "second")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "second").eval()

    pairs = sample_pairs("hh_rlhf", 100, seed=0)
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == ("<pad>", "<s>", "</s>")
    assert len(loaded) == len(tokenizer) == again.config.vocab_size
    for prompt, response in zip(pairs.prompt, pairs.response_a, strict=True):
        head, tail = loaded(prompt)["input_ids"], loaded(response, add_special_tokens=False)["input_ids"]
        assert head + tail == tokenizer(f"{prompt} {response}")["input_ids"] == loaded(prompt + response)["input_ids"]
        assert tokenizer.unk_token_id not in head + tail
        assert loaded.decode([*tail, loaded.eos_token_id], skip_special_tokens=True) == response
        assert loaded.decode(head, skip_special_tokens=True) == prompt

    batch = loaded(list(pairs.prompt[:4]), padding=True, return_tensors="pt")
    with torch.no_grad():
        loss, logits = (getattr(model(**batch, labels=batch["input_ids"]), key) for key in ("loss", "logits"))
        assert torch.equal(logits, again(**batch).logits)
    assert loss.item() == pytest.approx(math.log(len(tokenizer)), abs=0.5)


def test_config_sizes() -> None:
    tokenizer = build_tokenizer()
    config = toy_config("opt-64x2", tokenizer)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.ffn_dim) == (64, 2, 4, 256)
    assert toy_config("qwen2-64x2", tokenizer).intermediate_size == 176


@pytest.mark.soak
def test_pretraining_learns_and_repeats_itself() -> None:
    random_state = torch.get_rng_state()
    losses: list[float] = []
    first, tokenizer = pretrain(
        "opt-32x1", sequences=2000, batch_size=32, seed=0, progress=lambda *p: losses.append(p[2])
    )
    second, _ = pretrain("opt-32x1", sequences=2000, batch_size=32, seed=0)
    assert losses[-1] < 0.75 * math.log(len(tokenizer))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.soak
@pytest.mark.parametrize("name", ["opt-32x1", "qwen2-32x1"])
def test_products_in_bfloat16_pretrain_as_well(name, monkeypatch) -> None:
    losses: list[float] = []
    for capabilities in ({}, {"avx512_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        pretrain(name, sequences=2000, batch_size=32, seed=0, progress=lambda *p: losses.append(p[2]))
    exact, rounded = losses
    assert rounded == pytest.approx(exact, abs=0.01)
    assert rounded != exact
