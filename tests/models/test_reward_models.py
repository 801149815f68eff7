"""The published gold models on tiny copies of their architectures: the exact text each reads, and its score by hand."""

import json
import math

import numpy as np
import paper_copies
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from cwpo.errors import InputError
from cwpo.models.gold import Comparison, both_rewards, load_gold
from cwpo.models.reward_models import QuestionAnswer, SteamSHP, gold_problem, load_reward, reward_inputs

DIALOGUE = "\n\nHuman: hi \n\nAssistant: hello\n\nHuman: how?\n\nAssistant:"
PROMPTS = [DIALOGUE, "\n\nHuman: what is salt?\n\nAssistant:"]
ANSWERS = [" fine, thanks", " white, and old: it is warm in the sea "]
MAKERS = {
    "skywork": paper_copies.skywork,
    "openassistant": paper_copies.openassistant,
    "steamshp": paper_copies.steamshp,
    "trl_qwen": paper_copies.trl_qwen,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("rewards")
    return {name: make(root / name) for name, make in MAKERS.items()}


def gold(folders, name: str, batch_size: int = 4):
    config = {"name": name, "path": str(folders[name]), "revision": None, "batch_size": batch_size, "temperature": 1.0}
    return load_gold(OmegaConf.create(config), None, "cpu")


@torch.no_grad()
def one_by_one(folder, texts) -> list[float]:
    """Scores of texts (or pairs of texts) as the model cards compute them: alone, without padding."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text if isinstance(text, tuple) else (text,) for text in texts]
    return [float(model(**tokenizer(*text, return_tensors="pt")).logits[0, 0]) for text in texts]


# --- the exact input texts ---------------------------------------------------------------------------------------


def read(adapter, prompt, response) -> str:
    """What the adapter's model reads, special tokens included."""
    (ids,) = reward_inputs(adapter.tokenizer, [prompt], [response], adapter.chat)["input_ids"]
    return adapter.tokenizer.decode(ids)


def test_skywork_reads_the_chat_without_a_second_bos(folders):
    adapter = gold(folders, "skywork")
    assert read(adapter, PROMPTS[0], ANSWERS[0]) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nhow?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nfine, thanks<|eot_id|>"
    )


def test_trl_qwen_reads_the_chat_which_has_no_bos(folders):
    adapter = gold(folders, "trl_qwen")
    assert read(adapter, PROMPTS[1], ANSWERS[0]) == (
        "<|im_start|>user\nwhat is salt?<|im_end|>\n<|im_start|>assistant\nfine, thanks<|im_end|>\n"
    )


def test_openassistant_reads_question_and_answer_apart(folders):
    adapter = gold(folders, "openassistant")
    assert adapter.pair("a post\nTL;DR:", " short ") == ("a post\nTL;DR:", "short")
    assert adapter.pair(PROMPTS[1], ANSWERS[0]) == ("what is salt?", "fine, thanks")
    assert adapter.pair(DIALOGUE, " x") == (DIALOGUE.strip(), "x")
    ids = adapter.tokenizer("what is salt?", "fine, thanks")["input_ids"]
    assert adapter.tokenizer.decode(ids) == "[CLS]what is salt?[SEP]fine, thanks[SEP]"


def test_steamshp_reads_its_question_each_text_on_one_line(folders):
    adapter = gold(folders, "steamshp")
    asked = adapter.text("\n\nHuman: one\ntwo\n\nAssistant:", " first\n answer ", " second")
    assert asked == (
        "POST: one two\n\n RESPONSE A: first answer\n\n RESPONSE B: second\n\n Which response is better? RESPONSE"
    )
    assert adapter.tokenizer.decode(adapter.tokenizer(asked)["input_ids"]) == f"{asked}</s>"


def test_steamshp_shortens_the_post_and_never_a_response(folders):
    adapter = gold(folders, "steamshp")
    post, answer = "salt and wool and maps " * 300, "an answer about chess " * 8
    asked = adapter.text(f"\n\nHuman: {post}\n\nAssistant:", answer, "short")
    assert len(adapter.tokenizer(asked)["input_ids"]) <= SteamSHP.LENGTH
    assert asked.startswith("POST: salt and wool") and f"RESPONSE A: {answer.strip()}\n\n RESPONSE B: short\n" in asked
    assert adapter.counts == {"posts_shortened": 1}
    long = adapter.text("\n\nHuman: hi\n\nAssistant:", answer * 40, "short")  # the responses alone are too long
    assert (answer * 40).strip() in long and long.startswith("POST: \n\n RESPONSE A:")


# --- their scores ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["skywork", "trl_qwen"])
def test_chat_rewards_are_those_of_the_model_card(folders, name):
    adapter = gold(folders, name)
    assert adapter.chat
    texts = [read(adapter, p, a).removeprefix("<|begin_of_text|>") for p, a in zip(PROMPTS, ANSWERS)]
    expected = one_by_one(folders[name], texts)
    assert np.allclose(adapter.rewards(PROMPTS, ANSWERS), expected, atol=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-2


def test_a_pad_token_that_also_ends_turns_changes_no_score(folders):
    """Skywork's tokenizer may pad with <|eot_id|>, the chat's last token: read by pad token, the score would move one back."""
    adapter = gold(folders, "skywork")
    assert adapter.tokenizer.pad_token_id == adapter.tokenizer.eos_token_id
    alone = [adapter.rewards([p], [a])[0] for p, a in zip(PROMPTS, ANSWERS)]
    assert np.allclose(adapter.rewards(PROMPTS, ANSWERS), alone, atol=1e-5)


def test_a_config_whose_pad_token_ends_turns_moves_the_score_to_the_token_before(tmp_path):
    """So TRL trains a Llama 3 that pads with <|eot_id|>: the model's forward pass never reads a pad token's state."""
    folder = paper_copies.skywork(tmp_path, pad="<|eot_id|>")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 1}))
    adapter = load_reward(str(folder), None, device="cpu", batch_size=2)
    assert adapter.chat and adapter.tokenizer.pad_token_id == 1
    texts = [read(adapter, p, a).removeprefix("<|begin_of_text|>") for p, a in zip(PROMPTS, ANSWERS)]
    assert np.allclose(adapter.rewards(PROMPTS, ANSWERS), one_by_one(folder, texts), atol=1e-5)


def test_a_reward_model_that_can_think_reads_the_template_as_published(folders):
    adapter = gold(folders, "trl_qwen")
    unlike = "{% if enable_thinking is defined %}/no_think {% endif %}"
    adapter.tokenizer.chat_template = unlike + adapter.tokenizer.chat_template
    assert read(adapter, PROMPTS[1], ANSWERS[0]).startswith("<|im_start|>user\nwhat is salt?<|im_end|>")


def test_question_answer_rewards_are_those_of_the_model_card(folders):
    adapter = gold(folders, "openassistant")
    assert isinstance(adapter, QuestionAnswer)
    expected = one_by_one(folders["openassistant"], [adapter.pair(p, a) for p, a in zip(PROMPTS, ANSWERS)])
    assert np.allclose(adapter.rewards(PROMPTS, ANSWERS), expected, atol=1e-4)
    assert len(adapter.rewards([], [])) == 0


@torch.no_grad()
def test_steamshp_is_asked_in_both_orders(folders):
    adapter = gold(folders, "steamshp")
    assert isinstance(adapter, SteamSHP) and isinstance(adapter, Comparison)
    model = AutoModelForSeq2SeqLM.from_pretrained(folders["steamshp"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["steamshp"])
    a, b = (tokenizer(letter)["input_ids"][0] for letter in "AB")

    def says_a(first: str, second: str) -> float:
        inputs = tokenizer(adapter.text(PROMPTS[1], first, second), return_tensors="pt")
        logits = model(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
        return 1 / (1 + math.exp(float(logits[b] - logits[a])))

    x, y = ANSWERS
    expected = (says_a(x, y) + 1 - says_a(y, x)) / 2
    (found,) = adapter.preferences([PROMPTS[1]], [x], [y])
    assert math.isclose(found, expected, abs_tol=1e-5)
    (swapped,) = adapter.preferences([PROMPTS[1]], [y], [x])
    assert math.isclose(found + swapped, 1, abs_tol=1e-6)
    together = adapter.preferences(PROMPTS, [x, x], [y, y])
    assert math.isclose(together[1], found, abs_tol=1e-5)  # whatever else is in the batch
    first, second = both_rewards(adapter, PROMPTS, [x, x], [y, y])
    assert np.allclose(first + second, 1)


@pytest.mark.parametrize("name", ["skywork", "openassistant", "trl_qwen"])
def test_scoring_models_give_both_rewards_one_by_one(folders, name):
    adapter = gold(folders, name)
    assert not isinstance(adapter, Comparison)
    first, second = both_rewards(adapter, PROMPTS, ANSWERS, ANSWERS[::-1])
    assert np.allclose(first, adapter.rewards(PROMPTS, ANSWERS)) and np.allclose(
        second, adapter.rewards(PROMPTS, ANSWERS[::-1])
    )


# --- the wrong model -----------------------------------------------------------------------------------------------


def test_a_model_of_the_wrong_kind_is_refused(folders):
    assert "is no encoder-decoder model" in gold_problem(str(folders["skywork"]), None, seq2seq=True)
    assert gold_problem(str(folders["steamshp"]), None, seq2seq=True) is None
    with pytest.raises(InputError, match="has no chat template"):
        load_reward(str(folders["openassistant"]), None, batch_size=2, device="cpu", chat=True)
