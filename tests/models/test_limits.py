"""What a model cannot take: positions, scaled RoPE, tokens beyond the vocabulary; from configs alone."""

import pytest
from tiny import save, tiny_model, tiny_tokenizer
from transformers import AutoConfig

from cwpo.models.limits import causal_problem, context, pair_problems, tokenizer_problems
from cwpo.models.policy import hub_problem, readable

CONFIG = tiny_model("llama").config


@pytest.mark.parametrize(
    ("kind", "settings", "tokens"),
    [
        ("opt", {"max_position_embeddings": 64}, 64),
        ("gpt2", {"n_positions": 96}, 96),
        ("llama", {"max_position_embeddings": 512}, 512),
        ("llama", {"max_position_embeddings": 64, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, 256),
        (
            "llama",
            {
                "max_position_embeddings": 256,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            },
            256,
        ),
        ("bloom", {}, None),
        ("gemma3", {"text_config": {"max_position_embeddings": 1024}}, 1024),
    ],
)
def test_the_context_of_a_config(kind, settings, tokens):
    assert context(AutoConfig.for_model(kind, **settings)) == tokens


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("bert", {}, "an encoder, whose tokens attend to later ones"),
        ("bert", {"is_decoder": True}, None),
        ("roberta", {}, "an encoder, "),
        ("bart", {}, "an encoder-decoder"),
        ("t5", {}, "an encoder-decoder"),
        ("gpt_neox", {}, None),  # its config has is_decoder=False too
        ("opt", {}, None),
        ("gemma3", {}, None),
        ("gemma3_text", {"use_bidirectional_attention": True}, "an encoder, "),
        ("bert-generation", {}, "an encoder, "),
        ("xlnet", {}, "an encoder, "),
        ("xlm", {"causal": True}, None),
    ],
)
def test_encoders_are_no_policies(kind, settings, problem):
    """transformers loads them as causal models without an error, and their log-probs look ahead or lack the encoder."""
    found = causal_problem(AutoConfig.for_model(kind, **settings))
    assert (problem or "") in (found or "") and (found is None) == (problem is None)


def pair(chosen, rejected):
    return {"chosen_ids": chosen, "rejected_ids": rejected}


def test_the_first_wrong_row_of_each_kind_is_named():
    most, words = context(CONFIG), CONFIG.vocab_size
    rows = [pair([1, 2], [1, 2]), pair([1] * (most + 1), [1]), pair([1], [1] * (most + 3)), pair([1, words], [1])]
    long, beyond = pair_problems(rows, tiny_tokenizer(), CONFIG)
    assert f"row 1 has {most + 1} tokens" in long and f"at most {most}" in long and "2 of 4 rows" in long
    assert f"row 3 has token {words}" in beyond and f"vocabulary of {words} tokens" in beyond
    assert "the tokenizer's has 16" in beyond
    assert pair_problems([pair([1] * most, [words - 1])], tiny_tokenizer(), CONFIG) == []


def test_special_tokens_must_be_there_and_in_the_vocabulary():
    tokenizer = tiny_tokenizer()
    assert tokenizer_problems(tokenizer, CONFIG) == []
    (problem,) = tokenizer_problems(tokenizer, AutoConfig.for_model("bert"))
    assert "the model is a model of type bert" in problem
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    (problem,) = tokenizer_problems(tokenizer, CONFIG)
    assert "pad_token [PAD] is token 16" in problem and "vocabulary of 16" in problem
    tokenizer.eos_token = None
    assert "no EOS token" in tokenizer_problems(tokenizer, CONFIG)[0]


def test_a_folder_with_another_models_tokenizer_is_refused(tmp_path):
    folder = save(tiny_model("llama"), tmp_path)
    assert hub_problem(str(folder), None, "model") is None
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(folder)
    assert "its tokenizer has 17 tokens, the model's vocabulary only 16" in hub_problem(str(folder), None, "model")


@pytest.mark.parametrize(("stated", "tokens"), [(512, 62), (62, 62), (60, 60), (int(1e30), 62)])
def test_what_is_readable_is_bounded_by_the_tokenizer_too(tmp_path, stated, tokens):
    """RoBERTa has two positions more than tokens that it can read; its tokenizer states the number of tokens."""
    folder = save(tiny_model("llama", max_position_embeddings=62), tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = stated
    assert readable(tokenizer, folder) == tokens
