"""The plan's numbers beside counted bytes: storages alive in a training step on the meta device, and what Table 1 writes."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig, Qwen2Config

from cwpo.config.schema import LoraConfig, TrainingConfig
from cwpo.data.packing import pack_pairs
from cwpo.models import logprobs, row_attention
from cwpo.models.policy import add_lora
from cwpo.pipeline.arms import distinct, expand
from cwpo.planning.preflight.memory import GIB, shape_of, store_gib, training_need

TOKENS = 8192
PAIR = {f"{side}_{what}": v for side in ("chosen", "rejected") for what, v in (("ids", [5] * 334), ("start", 156))}
LORA = LoraConfig(enabled=True, r=8, targets="peft", base_dtype="bfloat16", save="adapters")


def config(family: str, layers: int):
    if family == "opt":  # OPT-13B
        sizes = {"hidden_size": 5120, "ffn_dim": 20_480, "word_embed_proj_dim": 5120, "num_attention_heads": 40}
        return OPTConfig(vocab_size=50_272, num_hidden_layers=layers, dropout=0.0, **sizes)
    kind, hidden, inner, heads, groups = {
        "llama": (LlamaConfig, 4096, 14_336, 32, 8),
        "qwen2": (Qwen2Config, 1536, 8960, 12, 2),
    }[family]
    return kind(
        vocab_size=50_000,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        num_hidden_layers=layers,
    )


class Alive(TorchDispatchMode):
    """Bytes of the storages that operations have made, now and at the most."""

    def __init__(self, known) -> None:
        super().__init__()
        self.known = {value.untyped_storage()._cdata for value in known}
        self.now = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.known:
                storage = value.untyped_storage()
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        return out

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class Flash(torch.autograd.Function):
    """What the attention kernel keeps and gives."""

    @staticmethod
    def forward(ctx, query, key, value):
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(states) for states in ctx.saved_tensors[:3])


def counted(monkeypatch, family: str, layers: int, training: TrainingConfig, lora: bool = True) -> float:
    """GiB that a step of alignment with TOKENS tokens takes beside the weights, in 16 bits."""
    monkeypatch.setattr(row_attention, "_by_sequence", lambda q, k, v, *_: Flash.apply(q, k, v))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # there is none on the meta device
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(family, layers), dtype=torch.bfloat16)
    if lora:
        model = add_lora(model, r=8, alpha=16, dropout=0.0, targets="peft").bfloat16()
    if training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batch = pack_pairs([PAIR] * (TOKENS // 512), lines=True)
    batch = {name: v.to("meta") if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
    with Alive(model.parameters()) as alive:
        logprobs.packed_logps(model.train(), batch).sum().backward()
    return alive.most / GIB


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_planned_activations_are_those_counted(monkeypatch, family, checkpointing):
    training = TrainingConfig(gradient_checkpointing=checkpointing, precision="bfloat16")
    shape = shape_of(config(family, 3), AutoModelForCausalLM)
    planned = training_need("align", "m", shape, training, TOKENS, LORA).activations
    assert 0.95 < planned / counted(monkeypatch, family, 3, training) < 1.3


def test_alignment_of_13_billion_parameters_takes_30_gib(monkeypatch):
    """Counted with 2 and 3 layers: each further one keeps its input. The plan says no less, and neither more than 30 GiB."""
    training = TrainingConfig(gradient_checkpointing=True, precision="bfloat16")
    two, three = (counted(monkeypatch, "opt", layers, training) for layers in (2, 3))
    assert three - two == pytest.approx(2 * TOKENS * 5120 / GIB, rel=0.01)
    shape = shape_of(config("opt", 40), AutoModelForCausalLM)
    need = training_need("align", "m", shape, training, TOKENS, LORA)
    weights = 2 * shape.parameters / GIB
    assert weights + three + 37 * (three - two) < need.total <= 30


@pytest.mark.parametrize(("method", "models"), [("ws_bt", 1), ("ws_dpo", 2)])
def test_a_policy_annotator_takes_the_disk_of_two_models(method, models):
    (arm,) = expand([f"method={method}", "pair.weak=m"], look=False)
    shape = shape_of(config("opt", 2), AutoModelForCausalLM)
    trained = [arm.nodes["train_annotator"]]
    written = store_gib(trained, {("pair.weak", "m"): shape})
    assert written == pytest.approx(models * 4 * shape.parameters / GIB)


@pytest.mark.soak
def test_table_1_takes_at_most_a_tenth_of_a_terabyte_a_seed():
    gold = ("gold=huggingface", "gold.path=Skywork/Skywork-Reward-V2-Llama-3.1-8B")
    arms = expand(["experiment=table1", "scale=paper", *gold], seeds=[0], look=False)
    nodes = distinct(arms)
    strong = shape_of(config("opt", 40), AutoModelForCausalLM)
    shapes = {("pair.strong", arm.cfg.pair.strong): strong for arm in arms}
    aligned = [node for node in nodes if node.stage.trains == "strong"]
    weak = [node for node in nodes if node.stage.trains == "weak"]  # at most 0.5 billion parameters in float32
    assert len(aligned) > 100 and 0 < store_gib(aligned, shapes) < 5
    assert store_gib(nodes, shapes) + 2 * len(weak) < 100
