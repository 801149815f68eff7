"""Adapters: on every linear layer, or on those that PEFT chooses for an architecture."""

import re

import pytest
from tiny import FAMILIES, tiny_model
from transformers import AutoModelForCausalLM, BioGptConfig

from cwpo.errors import InputError
from cwpo.models.policy import add_lora

pytest.importorskip("peft")


def adapted(family: str, targets: str) -> set[str]:
    model = add_lora(tiny_model(family), r=2, alpha=4, dropout=0.0, targets=targets)
    return {match[1] for name, _ in model.named_parameters() if (match := re.search(r"(\w+)\.lora_A", name))}


@pytest.mark.parametrize("family", FAMILIES)
def test_pefts_choice_is_the_query_and_the_value(family):
    assert adapted(family, "peft") == {"q_proj", "v_proj"}
    assert adapted(family, "all-linear") > {"q_proj", "k_proj", "v_proj"}


def test_an_architecture_for_which_peft_has_no_choice_is_named():
    model = AutoModelForCausalLM.from_config(
        BioGptConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(InputError, match="lora.targets=peft: .*type biogpt .*; use lora.targets=all-linear"):
        add_lora(model, r=2, alpha=4, dropout=0.0, targets="peft")
