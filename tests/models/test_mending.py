"""Models set right before training: dropout, weights of 16 bits, generation settings."""

import pytest
import torch
from architectures import architecture
from tiny import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from cwpo.models.mending import dropout_names, dropout_off, drops_attention, float32_masters, mend_generation_config
from cwpo.models.policy import add_lora, load_policy

SIZE = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
RATES = {
    "opt": {"dropout": 0.1, "attention_dropout": 0.2, "layerdrop": 0.0},
    "gpt2": {"attn_pdrop": 0.1, "embd_pdrop": 0.2, "resid_pdrop": 0.3},
    "bloom": {"hidden_dropout": 0.2, "attention_dropout": 0.1},
    "llama": {"attention_dropout": 0.1},
    "mixtral": {"router_jitter_noise": 0.3},
}


@pytest.mark.parametrize("kind", RATES)
def test_dropout_is_off_wherever_the_model_keeps_it(kind, tmp_path):
    config = AutoConfig.for_model(kind, **SIZE, **RATES[kind])
    model = AutoModelForCausalLM.from_config(config).train()
    ids = torch.randint(0, 50, (2, 40))
    assert not torch.equal(model(ids).logits, model(ids).logits)
    assert set(dropout_off(model).values()) == {rate for rate in RATES[kind].values() if rate}
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert dropout_off(model) == {}
    model.save_pretrained(tmp_path)
    assert dropout_off(AutoModelForCausalLM.from_pretrained(tmp_path)) == {}


def test_a_router_that_reads_its_noise_in_evaluation_keeps_it():
    config = AutoConfig.for_model("phimoe", input_jitter_noise=0.1, router_jitter_noise=0.2)
    assert dropout_names(config) == ["attention_dropout", "input_jitter_noise"]


def test_loading_without_dropout_knows_the_same_names(tmp_path):
    architecture("bloom", hidden_dropout=0.2, attention_dropout=0.1).save_pretrained(tmp_path)
    assert dropout_off(load_policy(tmp_path)) == {}
    assert dropout_off(load_policy(tmp_path, dropout=True)) == {"hidden_dropout": 0.2, "attention_dropout": 0.1}


def test_the_adapters_own_dropout_goes_too():
    """A trained adapter would not be its own reference at step 0."""
    model = add_lora(tiny_model("llama"), r=2, alpha=4, dropout=0.25)
    assert dropout_off(model) == {"default": 0.25}
    assert all(getattr(module, "p", 0) == 0 for module in model.modules())


@pytest.mark.parametrize(
    ("family", "name"), [("gpt2", "attn_pdrop"), ("opt", "attention_dropout"), ("bloom", "attention_dropout")]
)
def test_which_models_drop_attention(family, name):
    config = architecture(family, **{name: 0.1}).config
    assert drops_attention(config)
    setattr(config, name, 0.0)
    assert not drops_attention(config)


def dtypes(model, trainable):
    return {p.dtype for p in model.parameters() if p.requires_grad == trainable}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_weights_are_widened_or_only_the_adapters(dtype):
    whole = tiny_model("llama").to(dtype)
    before = [p.float() for p in whole.parameters()]
    assert str(dtype).removeprefix("torch.") in float32_masters(whole)
    assert dtypes(whole, True) == {torch.float32} and float32_masters(whole) is None
    assert all(torch.equal(a, b) for a, b in zip(before, whole.parameters(), strict=True))
    adapted = add_lora(tiny_model("llama").to(dtype), r=2, alpha=4, dropout=0.0)
    for parameter in adapted.parameters():
        parameter.data = parameter.data.to(dtype)
    assert float32_masters(adapted) is not None
    assert dtypes(adapted, True) == {torch.float32} and dtypes(adapted, False) == {dtype}


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.9, "top_p": 0.6}, {"num_return_sequences": 2}, {"temperature": 0.9, "num_beams": 1}]
)
def test_generation_settings_are_made_savable(settings, tmp_path):
    model = tiny_model("llama")
    model.generation_config = GenerationConfig(eos_token_id=2)
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    with pytest.raises(ValueError, match="Fix these issues"):
        model.save_pretrained(tmp_path / "a")
    mend_generation_config(model)
    model.save_pretrained(tmp_path / "b")
    saved = GenerationConfig.from_pretrained(tmp_path / "b")
    assert saved.eos_token_id == 2 and saved.temperature == settings.get("temperature")


def test_valid_generation_settings_stay_as_they_are():
    model = tiny_model("llama")
    before = model.generation_config.to_dict()
    mend_generation_config(model)
    assert model.generation_config.to_dict() == before
