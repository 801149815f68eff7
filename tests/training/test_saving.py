"""From training to samples: an update far below bfloat16's resolution is still there."""

import copy

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from tiny import WORDS, save, tiny_model, tiny_tokenizer
from training.test_preference import pairs, preference

from cwpo.data.batching import encode_prompts
from cwpo.models.policy import add_lora, load_policy
from cwpo.stages.base import Work
from cwpo.stages.generate import GENERATE
from cwpo.training.saving import merged, save_trained

IDS = torch.tensor([[1, 4, 5, 6, 7]])


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def small_update(folder, tmp_path, **settings):
    model = add_lora(load_policy(folder), r=4, alpha=8, dropout=0.0)
    trainer = preference(
        tmp_path / "run", pairs(), model, learning_rate=1e-5, epochs=3, optimizer="adamw_torch", **settings
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_small_update_survives_from_training_to_disk_and_back(tmp_path, precision):
    folder = save(tiny_model("llama"), tmp_path / "base")
    before = load_policy(folder)
    trainer = small_update(folder, tmp_path, precision=precision)
    beside = add_lora(load_policy(folder), r=4, alpha=8, dropout=0.0)  # adapters beside the weights, no autocast
    beside.load_state_dict(trainer.model.state_dict())
    trained = logits(beside)
    save_trained(trainer, tiny_tokenizer(), tmp_path / "out", fresh=lambda: None)
    after = load_policy(tmp_path / "out")
    old, new = (torch.cat([p.flatten() for p in m.parameters()]) for m in (before, after))
    moved = new != old
    assert moved.float().mean() > 0.3
    lost = (new.bfloat16() == old.bfloat16()) & moved  # what weights of 16 bits would not show
    assert lost.sum() > 0.9 * moved.sum()
    change, kept = trained - logits(before), logits(after) - logits(before)
    assert change.abs().max() > 1e-6
    assert (kept - change).norm() < 0.05 * change.norm()


def test_adapters_of_a_bfloat16_model_are_merged_in_float32(tmp_path):
    model = add_lora(tiny_model("llama").bfloat16(), r=4, alpha=8, dropout=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(1e-5)
    base = {name: p.float() for name, p in tiny_model("llama").bfloat16().named_parameters()}
    whole = merged(model)
    changed = [not torch.equal(p, base[name]) for name, p in whole.named_parameters() if "proj" in name]
    assert changed and all(changed)
    assert {p.dtype for p in whole.parameters()} == {torch.float32}


@torch.no_grad()
def test_a_small_update_shows_in_samples(tmp_path):
    # Two tokens compete for the first place after the prompt. A change of the hidden state that bfloat16 weights lose decides.
    model = tiny_model("llama", spread=5.0)
    head, prompt = model.get_output_embeddings().weight, "tell me about"
    ids = torch.tensor([encode_prompts(tiny_tokenizer(), [prompt])[0]])
    adapted = add_lora(copy.deepcopy(model), r=4, alpha=8, dropout=0.0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.fill_(2e-5)
    before, after = (m.base_model(input_ids=ids).last_hidden_state[0, -1] for m in (model, adapted.get_base_model()))
    change = after - before
    first, second = WORDS.index("bread") + 4, WORDS.index("bridges") + 4
    head[first] = 3 * before / before.norm() ** 2 * head.norm(dim=1).max() * before.norm()
    direction = change / change.norm()
    tilt = direction - (direction @ before + change.norm() / 2) / (before @ before) * before
    head[second] = head[first] + 0.01 * tilt
    adapted.get_base_model().get_output_embeddings().weight.copy_(head)

    said = {}
    for name, trained in {"before": model, "after": merged(adapted)}.items():
        save(trained, tmp_path / name / "model")
        said[name] = generated(tmp_path, name)
    assert said == {"before": "bread", "after": "bridges"}


def generated(tmp_path, name) -> str:
    """The first word that the generate stage samples, at a temperature so low that the likeliest comes."""
    pairs = [{"pair_id": f"p{i}", "prompt": "tell me about", "split": "test"} for i in range(2)]
    pd.DataFrame(pairs).to_parquet(tmp_path / "pairs.parquet")
    config = OmegaConf.create(
        {
            "generation": {
                "temperature": 1e-9,
                "max_new_tokens": 1,
                "batch_size": 2,
                "engine": "transformers",
                "precision": "float32",
                "top_k": 0,
            },
            "text_version": 2,
            "evaluation": {"prompts": None},
            "model_tag": name,
            "seed": 0,
        }
    )
    parents = {"model": tmp_path / name, "prepare": tmp_path}
    GENERATE.run(Work(out=tmp_path / name, config=config, parents=parents, tracker=None))
    return pd.read_parquet(tmp_path / name / "responses.parquet")["response"][0].strip()
