"""Checkpoints that lack weights. Adapters: on every linear layer, or on those that PEFT chooses for an architecture."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, PAD, save, tiny_encoder, tiny_model
from transformers import AutoModelForCausalLM, BertForMaskedLM, BertForSequenceClassification, BioGptConfig

from cwpo.checks.checkpoints import model_problems
from cwpo.errors import InputError
from cwpo.models.annotator import load_annotator, new_annotator
from cwpo.models.folders import checkpoint_problem
from cwpo.models.policy import add_lora, load_policy
from cwpo.models.reward_models import load_reward


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_transformers_would_draw_at_random_are_refused(tmp_path, family):
    save(tiny_model(family, num_labels=1), tmp_path)
    with pytest.raises(
        InputError, match="lacks 1 weights of a .*ForSequenceClassification.* such as score.weight; name"
    ):
        load_reward(str(tmp_path), None, device="cpu", batch_size=1)  # it scored texts with random numbers
    with pytest.raises(InputError, match="score.weight"):
        load_annotator(tmp_path, pad_id=PAD)
    new_annotator(tmp_path, None, pad_id=PAD, head_std=0.1, seed=0)  # whose head is meant to be new
    weights = load_file(tmp_path / "model.safetensors")
    name, value = next((name, value) for name, value in weights.items() if "q_proj.weight" in name)
    for changed in ({}, {name: value[:-1].clone()}, {name: torch.zeros(3)}):
        rest = {other: weights[other] for other in weights.keys() - {name}}
        save_file(rest | changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
        for load in (load_policy, lambda path: new_annotator(path, None, pad_id=PAD, head_std=0.1, seed=0)):
            with pytest.raises(InputError, match=r"lacks 1 weights of a .* such as [\w.]*q_proj.weight"):
                load(tmp_path)


def test_a_folder_that_lacks_some_files_of_its_weights_is_refused_before_it_is_loaded(tmp_path):
    model = tiny_model("llama")
    save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert checkpoint_problem(str(tmp_path), "model") is None
    first, *others = sorted(tmp_path.glob("model-*.safetensors"))
    first.unlink()
    problem = f"index.json names {first.name}, which is not there (1 of {1 + len(others)} files)"
    assert problem in (checkpoint_problem(str(tmp_path), "model") or "")
    with pytest.raises(InputError, match=re.escape(problem)):
        load_policy(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "no model.safetensors, no model.safetensors.index.json" in checkpoint_problem(str(tmp_path), "model")
    save(model, tmp_path)  # one file is read first
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": first.name}}))
    assert checkpoint_problem(str(tmp_path), "model") is None and load_policy(tmp_path)


def test_an_encoder_cannot_be_an_annotator(tmp_path):
    save(tiny_encoder(BertForSequenceClassification, num_labels=1), tmp_path)
    with pytest.raises(InputError, match="type bert, whose sequence classifier does not read the last token"):
        new_annotator(tmp_path, None, pad_id=PAD, head_std=0.1, seed=0)
    reward = load_reward(str(tmp_path), None, device="cpu", batch_size=1)  # a reward model it can be
    assert len(reward.rewards(["ask"], [" bread" * 20])) == 1
    with pytest.raises(InputError, match="has positions for 32 tokens, and a text has 42; lower data.max_tokens"):
        reward.rewards(["ask", "ask"], [" me", " bread" * 40])  # which ended in an IndexError


def test_an_encoder_cannot_be_a_policy(tmp_path):
    save(tiny_encoder(BertForMaskedLM), tmp_path)
    with pytest.raises(
        InputError, match=r"model=\S+ is a model of type bert, an encoder, whose tokens attend to later ones"
    ):
        load_policy(tmp_path)
    (problem,) = model_problems({"pair.strong": (str(tmp_path), None)}, ask_hub=True)
    assert problem.text.startswith(f"pair.strong={tmp_path} is a model of type bert, an encoder")
    assert model_problems({"embedding.path": (str(tmp_path), None)}, ask_hub=True) == []


def adapted(family: str, targets: str) -> set[str]:
    pytest.importorskip("peft")
    model = add_lora(tiny_model(family), r=2, alpha=4, dropout=0.0, targets=targets)
    return {match[1] for name, _ in model.named_parameters() if (match := re.search(r"(\w+)\.lora_A", name))}


@pytest.mark.parametrize("family", FAMILIES)
def test_pefts_choice_is_the_query_and_the_value(family):
    assert adapted(family, "peft") == {"q_proj", "v_proj"}
    assert adapted(family, "all-linear") > {"q_proj", "k_proj", "v_proj"}


def test_an_architecture_for_which_peft_has_no_choice_is_named():
    pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_config(
        BioGptConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(InputError, match="lora.targets=peft: .*type biogpt .*; use lora.targets=all-linear"):
        add_lora(model, r=2, alpha=4, dropout=0.0, targets="peft")
