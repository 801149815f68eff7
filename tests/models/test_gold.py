"""Scores of texts: the weak annotator's scalar head and the gold rewards."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from many_tokenizers import byte_level
from omegaconf import OmegaConf
from tiny import BOS, EOS, FAMILIES, PAD, save, tiny_encoder, tiny_model, tiny_tokenizer
from tokenizers import processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from cwpo.errors import InputError
from cwpo.models.annotator import load_annotator, new_annotator, score_responses
from cwpo.models.gold import Oracle, Trained, load_gold
from cwpo.models.reward_models import HuggingFace, LastToken, gold_problem, load_reward
from cwpo.stages import online_align

ROWS = [([BOS, 5, 6, 7, EOS], 3), ([BOS, 8, 9, 10, 11, EOS], 2), ([BOS, 5, 8, EOS], 3)]
PROMPTS = ["ask me", "tell me about bread", "ask"]
RESPONSES = ["bread is good", "bad", "bridges is very warm"]


@pytest.fixture(scope="module", params=FAMILIES)
def annotator(request):
    return tiny_model(request.param, labels=1)


@torch.no_grad()
def by_hand(model, ids: list[int]) -> float:
    """The scalar head's dot product with the last hidden state of the row on its own."""
    hidden = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    return (model.score.weight[0] @ hidden).item()


def scores(model, rows=ROWS, pad_id: int = PAD, **kwargs) -> list[float]:
    return score_responses(model, rows, pad_id, **kwargs).tolist()


def test_a_score_is_read_at_the_last_token(annotator):
    expected = [by_hand(annotator, ids) for ids, _ in ROWS]
    assert scores(annotator) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert len(set(expected)) == 3


def test_a_pad_token_equal_to_eos_changes_no_score(annotator):
    assert scores(annotator, pad_id=EOS) == pytest.approx(scores(annotator, pad_id=PAD), rel=1e-4, abs=1e-5)


def test_scores_do_not_depend_on_the_batch_and_keep_their_order(annotator):
    rows = [ROWS[1], ROWS[2], ROWS[0], ([BOS, *[4] * 20, EOS], 2)]
    alone = [scores(annotator, [row])[0] for row in rows]
    assert scores(annotator, rows, batch_size=3) == pytest.approx(alone, rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_a_score_of_a_16_bit_model_is_not_rounded_to_16_bits():
    """Reward models above SMALL keep their dtype on GPUs; of 8 bits, many scores would tie."""
    model = tiny_model("llama", labels=1).to(torch.bfloat16)
    states = [model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].double() for ids, _ in ROWS]
    expected = [(model.score.weight[0].double() @ state).item() for state in states]
    assert scores(model) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reloaded_annotator_gives_the_same_scores(tmp_path, family):
    backbone = save(tiny_model(family), tmp_path / "backbone")
    fresh = new_annotator(backbone, None, pad_id=PAD, head_std=0.5, seed=3)
    loaded = load_annotator(save(fresh, tmp_path / "annotator"), pad_id=PAD)
    # Where the weights lie in memory decides the last bit of some products.
    assert scores(loaded) == pytest.approx(scores(fresh), rel=1e-6)
    assert loaded.dtype == torch.float32 and not loaded.training


def test_the_head_depends_on_the_seed_and_on_nothing_else(tmp_path):
    folder = save(tiny_model("opt"), tmp_path)
    heads = []
    for seed, elsewhere in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(elsewhere)
        heads.append(new_annotator(folder, None, pad_id=PAD, head_std=0.5, seed=seed).score.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_head_std_is_the_spread_of_the_head(tmp_path):
    folder = save(tiny_model("opt"), tmp_path)
    one, ten = (new_annotator(folder, None, pad_id=PAD, head_std=s, seed=0).score.weight for s in (0.1, 1.0))
    assert torch.allclose(10 * one, ten)
    assert 0.5 < ten.std().item() < 1.6  # 16 draws


def test_the_backbone_is_the_pretrained_one_without_dropout(tmp_path):
    pretrained = tiny_model("opt", dropout=0.3)
    made = new_annotator(save(pretrained, tmp_path), None, pad_id=PAD, head_std=0.1, seed=0)
    assert made.config.dropout == 0
    for name, value in pretrained.base_model.state_dict().items():
        assert torch.equal(made.base_model.state_dict()[name], value), name


def test_the_trained_gold_reward_scores_prompt_response_and_eos(tmp_path):
    model = tiny_model("opt", labels=1)
    gold = Trained(save(model, tmp_path), batch_size=2, device="cpu")
    tokenizer = tiny_tokenizer()
    rows = [tokenizer(f"{p} {r} </s>")["input_ids"] for p, r in zip(PROMPTS, RESPONSES)]
    rewards = gold.rewards(PROMPTS, RESPONSES)
    assert rewards == pytest.approx([by_hand(model, ids) for ids in rows], rel=1e-4, abs=1e-5)
    assert rewards.dtype == np.float64


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_model_is_read_as_its_own_forward_pass_returns_it(tmp_path, family):
    folder = save(tiny_model(family, labels=1), tmp_path)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), tiny_tokenizer()
    prompts = [f"{prompt} " for prompt in PROMPTS]
    expected = []
    for prompt, response in zip(prompts, RESPONSES):
        with torch.no_grad():
            expected.append(model(**tokenizer(prompt + response, return_tensors="pt")).logits.item())
    rewards = HuggingFace(str(folder), None, batch_size=2, device="cpu").rewards(prompts, RESPONSES)
    assert rewards == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert rewards.dtype == np.float64 and len(set(expected)) == 3


@pytest.mark.parametrize(
    ("kind", "padded", "config_pad"),
    [(k, p, None) for k in ("llama", "gemma3") for p in (True, False)]
    + [("llama", p, pad) for p, pad in ((False, 3), (False, EOS), (True, EOS))],
)
def test_texts_that_end_in_eos_are_scored_as_if_each_were_alone(tmp_path, kind, padded, config_pad):
    """EOS pads the batches of a model whose tokenizer has no pad token. gemma3: a model that reads images too keeps its
    pad token with the settings of its texts."""
    tokenizer = byte_level(template="<s> $A </s>", **({} if padded else {"pad_token": None}))
    size = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    size["pad_token_id"] = config_pad or tokenizer.pad_token_id
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    nested = {"text_config": size, "vision_config": vision | {"image_size": 28, "patch_size": 14}}
    config = AutoConfig.for_model(kind, **(nested if kind == "gemma3" else size), num_labels=1)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    folder = save(model, tmp_path, tokenizer)
    with torch.no_grad():
        ids = [tokenizer(p + r, return_tensors="pt")["input_ids"] for p, r in zip(PROMPTS, RESPONSES)]
        expected = [model(input_ids=row).logits.item() for row in ids]
    rewards = load_reward(str(folder), None, device="cpu", batch_size=3).rewards(PROMPTS, RESPONSES)
    assert rewards == pytest.approx(expected, rel=1e-4, abs=1e-5)
    new_annotator(folder, None, pad_id=2, head_std=0.1, seed=0)
    online = {"batch_size": 3, "reward_model": str(folder), "reward_revision": None, "reward_chat": False}
    reward = online_align._reward(
        SimpleNamespace(config=OmegaConf.create({"online": online}), parents={}, device="cpu")
    )
    assert reward(PROMPTS, RESPONSES) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def as_pair() -> processors.TemplateProcessing:
    special = [("<s>", BOS), ("</s>", EOS)]
    return processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=special)


def test_an_encoder_reads_prompt_and_response_as_a_pair_of_texts(tmp_path):
    tokenizer = tiny_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.post_processor = as_pair()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>", unk_token="<unk>"
    )
    model = tiny_encoder(BertForSequenceClassification, num_labels=1, initializer_range=0.5)
    folder = save(model, tmp_path, tokenizer)
    with torch.no_grad():
        expected = [model(**tokenizer(p, r, return_tensors="pt")).logits.item() for p, r in zip(PROMPTS, RESPONSES)]
    rewards = HuggingFace(str(folder), None, batch_size=2, device="cpu").rewards(PROMPTS, RESPONSES)
    assert rewards == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        # read at the row's end
        ("xlnet", {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16, "pad_token_id": 3}),
        ("fnet", {"pad_token_id": 3}),  # mixes all tokens of a row, padding too
        ("roberta", {"pad_token_id": 1}),  # numbers positions from its own pad token, not from the tokenizer's
        ("bart", {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 3}),  # counts EOS
    ],
)
def test_scores_of_encoders_are_those_of_their_own_forward_pass_on_each_text_alone(tmp_path, kind, size):
    tokenizer = byte_level(cls_token="<s>", sep_token="</s>", padding_side="left")
    tokenizer.backend_tokenizer.post_processor = as_pair()
    if kind != "xlnet":
        size |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), num_labels=1, initializer_range=0.5, **size)
    torch.manual_seed(0)
    folder = str(save(AutoModelForSequenceClassification.from_config(config), tmp_path, tokenizer))
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    responses = [*RESPONSES[:2], "cold </s> is bad"]
    with torch.no_grad():
        expected = [model(**tokenizer(p, r, return_tensors="pt")).logits.item() for p, r in zip(PROMPTS, responses)]
    rewards = load_reward(folder, None, device="cpu", batch_size=3).rewards(PROMPTS, responses)
    assert rewards == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_an_encoder_has_fewer_positions_than_its_config_says(tmp_path):
    """RoBERTa's begin behind the pad token's number; its tokenizer states how many texts have."""
    tokenizer = byte_level(template="<s> $A </s>", model_max_length=16)
    size = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "max_position_embeddings": 18, "pad_token_id": 1, "num_labels": 1}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("roberta", **size))
    gold = load_reward(str(save(model, tmp_path, tokenizer)), None, device="cpu", batch_size=2)
    with pytest.raises(InputError, match="has positions for 16 tokens, and a text has 17"):
        gold.rewards(["x" * 7], ["y" * 8])


def test_a_model_with_two_labels_is_no_reward_model(tmp_path):
    folder = str(save(tiny_model("opt", labels=2), tmp_path))
    assert "num_labels=1" in gold_problem(folder, None)
    with pytest.raises(InputError, match="returns 2 scores"):
        HuggingFace(folder, None, batch_size=2, device="cpu")


def test_load_gold_makes_the_chosen_adapter(tmp_path):
    folder = save(tiny_model("opt", labels=1), tmp_path)
    config = OmegaConf.create({"name": "oracle", "path": str(folder), "revision": None, "batch_size": 4})
    assert isinstance(load_gold(config, None, "cpu"), Oracle)
    assert isinstance(load_gold(OmegaConf.merge(config, {"name": "trained"}), folder, "cpu"), Trained)
    assert isinstance(load_gold(OmegaConf.merge(config, {"name": "huggingface"}), None, "cpu"), LastToken)


def test_a_trained_gold_reward_without_its_model_is_an_error():
    with pytest.raises(ValueError, match="folder"):
        load_gold(OmegaConf.create({"name": "trained", "batch_size": 4}), None, "cpu")
