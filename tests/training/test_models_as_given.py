"""PreferenceTrainer on models as users hand them over: windows, dynamic RoPE, 16 bits, dropout, settings that cannot be saved."""

import math

import pytest
import torch
from architectures import architecture, right_logp
from datasets import Dataset
from tiny import WORDS, arguments, parameters, tiny_model, tiny_tokenizer
from training.test_preference import WEIGHTS, losses, pairs, preference

from cwpo.errors import InputError
from cwpo.models.policy import add_lora
from cwpo.training.preference import PreferenceTrainer


def text(words: int, first: int = 0) -> str:
    return " ".join(WORDS[(first + 7 * i) % len(WORDS)] for i in range(words))


LONG = [
    {"prompt": text(p, p), "chosen": text(c, c + 1), "rejected": text(r, r + 2), "weight": w}
    for (p, c, r), w in zip([(3, 2, 4), (40, 12, 8), (20, 3, 25), (2, 1, 3)], WEIGHTS, strict=False)
]


@pytest.mark.parametrize("budget", [None, 60])
@pytest.mark.parametrize("name", ["mistral", "gemma2", "bloom", "dynamic", "cohere"])
def test_losses_and_reference_are_those_of_plain_sequences(tmp_path, name, budget):
    policy, reference = architecture(name), architecture(name)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1 + 0.2 * torch.arange(parameter.numel()).sin().view_as(parameter))
    trainer = preference(tmp_path, LONG, reference, budget=budget)
    rows, right = trainer.train_dataset, []
    for row in rows:
        both = []
        for side in ("chosen", "rejected"):
            at = row[f"{side}_ids"], row[f"{side}_start"]
            expected = right_logp(reference, *at)
            assert row[f"{side}_logp"] == pytest.approx(expected, abs=2e-3)
            both.append(right_logp(policy, *at) - expected)
        right.append(row["weight"] * math.log1p(math.exp(-0.5 * (both[0] - both[1]))))
    batch = trainer.data_collator(rows)
    parts = batch.get("micro", [batch])
    with torch.no_grad():
        total = sum(trainer.row_losses(policy_of(trainer, policy), part).sum().item() for part in parts)
    assert total == pytest.approx(sum(right), abs=2e-3)
    assert total != pytest.approx(math.log(2) * sum(row["weight"] for row in rows), abs=0.01)


def policy_of(trainer, policy):
    """The trainer's own model with the policy's weights: its layout's head is a part of it."""
    trainer.model.load_state_dict(policy.state_dict())
    return trainer.model


@pytest.mark.parametrize("name", ["dynamic", "mistral"])
def test_a_stream_is_computed_exactly_from_its_first_long_pair_on(tmp_path, name):
    trainer = preference(tmp_path, [LONG[0], LONG[3], *LONG], architecture(name), batch_size=4, steps=2)
    trainer.train()
    assert trainer.layout.by_length == (name == "dynamic") and not trainer.layout.packed
    assert trainer.state.log_history[0]["rewards/margins"] == pytest.approx(0, abs=1e-3)


def test_one_length_at_a_time_is_refused_where_the_model_is_wrapped(tmp_path, monkeypatch):
    monkeypatch.setattr(PreferenceTrainer, "is_wrapped", True)
    assert not preference(tmp_path, LONG, architecture("mistral")).layout.packed
    with pytest.raises(InputError, match="must compute these rows one length at a time"):
        preference(tmp_path, LONG, architecture("dynamic"))


def test_a_stream_is_read_by_the_training_process(tmp_path):
    args = arguments(tmp_path, rows=4)
    args.max_steps, args.dataloader_num_workers = 4, 2
    rows = [row | {"pair_id": f"p{i}"} for i, row in enumerate(pairs(11) + pairs(5))]
    seen = []
    with pytest.warns(UserWarning, match="dataloader_num_workers=2: a stream is read"):
        trainer = PreferenceTrainer(
            tiny_model("llama"),
            args,
            Dataset.from_list(rows).to_iterable_dataset(num_shards=3),
            processing_class=tiny_tokenizer(),
        )
    inner = trainer.row_losses
    trainer.row_losses = lambda model, inputs: (seen.extend(inputs["pair_id"]), inner(model, inputs))[1]
    trainer.train()
    assert sorted(seen) == sorted(row["pair_id"] for row in rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_learn_as_those_of_32(tmp_path, dtype):
    exact = tiny_model("llama").to(dtype).float()
    model = tiny_model("llama").to(dtype)
    small = {"learning_rate": 1e-5, "epochs": 3, "optimizer": "adamw_torch"}
    with pytest.warns(UserWarning, match="trained in float32 now"):
        trainer = preference(tmp_path, pairs(), model, **small)
    assert trainer.data_collator.packed
    trainer.train()
    preference(tmp_path, pairs(), exact, **small).train()
    assert torch.equal(parameters(trainer.model), parameters(exact))


def test_adapters_of_a_bfloat16_model_are_trained_in_float32_and_share_prompts(tmp_path):
    model = add_lora(tiny_model("llama").bfloat16(), r=2, alpha=4, dropout=0.0)
    trainer = preference(tmp_path, pairs(), model, learning_rate=1e-3, epochs=2, optimizer="adamw_torch")
    assert trainer.data_collator.packed
    trainer.train()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    first, second = (row["rewards/margins"] for row in trainer.state.log_history if "loss" in row)
    assert first == pytest.approx(0, abs=1e-3) and second > 1e-4


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_dropout_left_on_is_switched_off_and_told(tmp_path, family):
    with pytest.warns(UserWarning, match=r"dropout was on in the model \(.*attention_dropout=0.3"):
        trainer = preference(tmp_path, pairs(), tiny_model(family, attention_dropout=0.3))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2) * sum(WEIGHTS[:8]) / 8, abs=1e-4)
    assert trainer.model.config.attention_dropout == 0
    assert torch.equal(losses(trainer), losses(trainer))


def test_what_could_not_be_saved_is_mended_before_training(tmp_path):
    model = tiny_model("llama")
    model.generation_config.temperature = 0.9
    trainer = preference(tmp_path, pairs(), model)
    trainer.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
