"""Adapters through the disk and back: the same model, unmerged or merged in float32, above a base that is named and checked."""

import json

import pytest
import torch
from conftest import SMOKE
from safetensors.torch import load_file
from tiny import save, tiny_model, tiny_tokenizer

from cwpo.commands.store import look_after
from cwpo.config.commands import StoreConfig
from cwpo.errors import InputError
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.models.adapters import Base, base_of, save_adapters
from cwpo.models.folders import BASE, TENSORS
from cwpo.models.generation import sample_responses
from cwpo.models.policy import add_lora, as_trained, export, load_adapted, load_policy
from cwpo.pipeline.arms import expand
from cwpo.store.store import Store

IDS = torch.tensor([[1, 4, 5, 6, 7]])
TINY_LORA = ["lora.enabled=true", "lora.save=adapters", "lora.base_dtype=bfloat16", "method=human"]


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


@pytest.fixture(params=["float32", "bfloat16"])
def adapted(request, tmp_path):
    """A folder of adapters that change the model, its base, and the model that was saved."""
    base = save(tiny_model("llama"), tmp_path / "base")
    under = load_policy(base, dtype=getattr(torch, request.param))
    model = add_lora(under, r=4, alpha=8, dropout=0.1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
    folder = tmp_path / "adapters"
    save_adapters(model, Base.of(base, None, request.param, folder), folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder, base, model.eval()


def test_adapters_come_back_as_they_were_trained(adapted):
    folder, base, model = adapted
    again = load_adapted(folder)
    assert {p.dtype for p in again.parameters() if p.requires_grad} == {torch.float32}
    frozen = {p.dtype for p in again.parameters() if not p.requires_grad}
    assert frozen == {getattr(torch, base_of(folder).dtype)}
    assert torch.equal(logits(again), logits(model)) and torch.equal(logits(as_trained(folder)), logits(model))
    assert {f.name for f in folder.glob("*.safetensors")} == {TENSORS}
    assert (folder / TENSORS).stat().st_size < (base / "model.safetensors").stat().st_size


def test_the_plain_model_has_them_merged_in_float32(adapted, tmp_path):
    folder, _, model = adapted
    whole = load_policy(folder)
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    assert torch.allclose(logits(whole), logits(model.float()), atol=1e-4)
    prompts = dict(temperature=1.0, max_new_tokens=4, batch_size=4)
    said = [
        [one["response"] for one in sample_responses(m, tiny_tokenizer(), ["ask me", "tell"] * 4, range(8), **prompts)]
        for m in (whole, as_trained(folder).float())
    ]
    assert said[0] == said[1] and len(set(said[0])) > 1
    for dtype in ("float32", "base"):
        export(folder, tmp_path / dtype, dtype)
        kept = torch.float32 if dtype == "float32" else getattr(torch, base_of(folder).dtype)
        exported = load_file(tmp_path / dtype / "model.safetensors")
        for name, value in whole.state_dict().items():
            assert name not in exported or torch.equal(exported[name], value.to(kept))


def test_a_base_that_is_gone_or_changed_is_refused(adapted, tmp_path):
    folder, base, _ = adapted
    save(tiny_model("llama", seed=1), base)
    with pytest.raises(InputError, match="its files have changed since: put the old ones back"):
        load_policy(folder)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="base, which is gone; put it back"):
        load_policy(folder)
    (folder / BASE).write_text("{}")
    with pytest.raises(InputError, match="base.json cannot be read"):
        load_policy(folder)


def test_weights_of_float16_keep_their_range_in_bfloat16(tmp_path):
    model = tiny_model("opt").half()
    folder = save(model, tmp_path / "half")
    narrow = load_policy(folder, dtype=torch.bfloat16)
    for (name, ours), theirs in zip(narrow.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours.float(), theirs.float(), rtol=2**-8, atol=0), name
    with torch.no_grad():
        wide = tiny_model("opt")
        wide.get_input_embeddings().weight[3] = torch.finfo(torch.float32).max
    with pytest.raises(InputError, match="become infinite or NaN in torch.bfloat16; use lora.base_dtype=float32"):
        load_policy(save(wide, tmp_path / "wide"), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """An arm with adapters above a base in bfloat16, through the whole store."""
    store = tmp_path_factory.mktemp("store")
    (made,) = expand([*SMOKE, f"store={store}", *TINY_LORA])
    run_arms([made], Settings.of(made.cfg))
    return made, Store(store)


def test_sft_and_alignment_keep_adapters_above_the_pretrained_stage(arm):
    made, store = arm
    pretrained = made.nodes["pretrain_strong"]
    for name in ("sft", "align"):
        folder = made.nodes[name].folder(store) / "model"
        note = json.loads((folder / BASE).read_text())
        assert note["base"]["path"] == f"../../../pretrain/{pretrained.key}/model"
        assert not (folder / "model.safetensors").exists()
        assert store.damage(made.nodes[name].stage.name, made.nodes[name].key) == []
    card = (made.nodes["align"].folder(store) / "model" / "README.md").read_text()
    assert "library_name: peft" in card and f"pretrain/{pretrained.key}" in card and "bfloat16" in card


def test_alignment_goes_on_with_the_adapters_of_sft(arm):
    """The first margins are 0, since the reference is the model with SFT's adapters; then those adapters move."""
    made, store = arm
    curve = (made.nodes["align"].folder(store) / "metrics.jsonl").read_text().splitlines()
    assert json.loads(curve[0])["rewards/margins"] == pytest.approx(0, abs=1e-6)
    before, after = (load_file(made.nodes[name].folder(store) / "model" / TENSORS) for name in ("sft", "align"))
    assert before.keys() == after.keys() and any(not torch.equal(before[n], after[n]) for n in before)


def test_a_moved_store_still_finds_the_base(arm, tmp_path):
    made, store = arm
    import shutil

    shutil.copytree(store.root, tmp_path / "moved")
    folder = made.nodes["align"].folder(Store(tmp_path / "moved")) / "model"
    found = base_of(folder).found_from(folder)
    assert found.startswith(str(tmp_path / "moved")) and torch.equal(
        logits(load_policy(folder)), logits(load_policy(made.nodes["align"].folder(store) / "model"))
    )


def test_the_store_exports_a_stage_as_an_ordinary_checkpoint(arm, tmp_path, capsys):
    made, store = arm
    key, out = made.nodes["align"].key, tmp_path / "whole"

    def asked(**given):
        settings = {"action": "export", "store": str(store.root), "stages": [f"align/{key}"], "out": str(out)}
        look_after(StoreConfig(**settings | given))

    asked()
    exported = load_policy(out)
    assert "saved in float32" in capsys.readouterr().out and not (out / BASE).exists()
    assert torch.equal(logits(exported), logits(load_policy(made.nodes["align"].folder(store) / "model")))
    with pytest.raises(InputError, match="needs one stage, and out=<a new folder>"):
        asked()
    with pytest.raises(InputError, match="holds no adapters"):
        asked(stages=[f"weight/{made.nodes['weight'].key}"], out=str(tmp_path / "other"))
