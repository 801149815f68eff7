"""Training in bfloat16, with optimisers of bitsandbytes, and with activations computed twice."""

import gzip
import json
import math

import numpy as np
import pytest
import torch
from conftest import SMOKE
from scipy.stats import norm
from tiny import FAMILIES, tiny_model
from torch.nn.functional import scaled_dot_product_attention
from training.test_preference import close, pairs, preference, update

from cwpo.checks.reading import items
from cwpo.data.encoding import encode
from cwpo.execution.node import Settings
from cwpo.execution.workers import print_stand_in
from cwpo.models import heads
from cwpo.models.annotator import new_annotator, response_scores, score_responses
from cwpo.models.packed import probing
from cwpo.models.policy import add_lora, load_tokenizer
from cwpo.models.row_attention import BLOCK, LEAST, attend
from cwpo.pipeline.arms import distinct, expand
from cwpo.runtime import computing_in, label_precision, optimizer_on, products_in


@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_rounds_the_update_and_leaves_the_weights_in_float32(tmp_path, family):
    settings = {"learning_rate": 0.01, "epochs": 2}
    exact = update(preference(tmp_path, pairs(), tiny_model(family), **settings))
    trainer = preference(tmp_path, pairs(), tiny_model(family), precision="bfloat16", **settings)
    assert trainer.data_collator.packed
    rounded = update(trainer)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert close(rounded, exact, rel=0.2)
    assert not close(rounded, exact, rel=1e-5)


@pytest.mark.parametrize("split", [{}, {"budget": 45}, {"micro_batch_size": 2}])
def test_at_step_0_every_margin_is_0_in_bfloat16_too(tmp_path, split):
    # the reference's log-probs are computed as the policy's are
    trainer = preference(tmp_path, pairs(), precision="bfloat16", **split)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=0.05)
    assert first["loss"] == pytest.approx(3.65 / 8 * math.log(2), abs=0.02)


def test_parts_of_the_model_called_by_themselves_compute_in_bfloat16(tmp_path, monkeypatch):
    seen = []
    inner = heads._losses

    def watched(head, hidden, target):
        seen.append(head(hidden).dtype)
        return inner(head, hidden, target)

    monkeypatch.setattr(heads, "_losses", watched)
    preference(tmp_path, pairs(chosen_logp=[-9.0] * 8, rejected_logp=[-11.0] * 8), precision="bfloat16").train()
    assert seen[-1] == torch.bfloat16  # the first call checks, in float32, that pairs can be packed
    assert seen[0] == torch.float32


def test_scores_stay_in_full_precision():
    model = tiny_model("opt", labels=1)
    ids = torch.tensor([[1, 4, 5, 6], [1, 7, 8, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    exact = response_scores(model, ids, mask)
    with computing_in("bfloat16", "cpu"):
        scores = response_scores(model, ids, mask)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, exact, rtol=0.1, atol=0.1)
    assert not torch.equal(scores, scores.bfloat16().float())  # the head itself was not rounded


class Calls:
    """Counts the forward passes of the model's first block."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.count = 0
        block = next(m for name, m in model.named_modules() if name.endswith("layers.0"))
        forward = block.self_attn.forward

        def counted(*args, **kwargs):
            self.count += torch.is_grad_enabled()
            return forward(*args, **kwargs)

        block.self_attn.forward = counted


@pytest.mark.soak
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_activations_give_the_same_gradients_on_packed_pairs(tmp_path, family, lora):
    updates, calls = [], []
    for checkpointing in (False, True):
        model = tiny_model(family)
        watch = Calls(model)
        if lora:
            pytest.importorskip("peft")
            model = add_lora(model, r=2, alpha=4, dropout=0.0, seed=3)
        trainer = preference(tmp_path, pairs(), model, gradient_checkpointing=checkpointing, learning_rate=0.1)
        assert trainer.data_collator.packed
        updates.append(update(trainer))
        calls.append(watch.count)
    assert updates[0].norm() > 0
    assert torch.allclose(updates[0], updates[1], rtol=1e-5, atol=1e-8)
    assert calls[1] == 2 * calls[0]  # forward, and again in the backward pass


def test_adapters_are_drawn_from_the_seed():
    pytest.importorskip("peft")

    def drawn(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # whatever was drawn before
        model = add_lora(tiny_model(), r=2, alpha=4, dropout=0.0, seed=seed)
        return torch.cat([p.flatten() for name, p in model.named_parameters() if "lora_A" in name])

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


@pytest.mark.parametrize(
    ("device", "wanted", "used"),
    [
        ("cuda", "paged_adamw_32bit", "paged_adamw_32bit"),
        ("cuda:1", "adamw_8bit", "adamw_8bit"),
        ("cpu", "paged_adamw_32bit", "adamw_torch"),
        ("mps", "adamw_bnb_8bit", "adamw_torch"),
        ("cpu", "adamw_torch", "adamw_torch"),
        ("cpu", "sgd", "sgd"),
    ],
)
def test_optimisers_of_bitsandbytes_need_cuda(device, wanted, used):
    assert optimizer_on(device, wanted) == used
    assert optimizer_on(device, wanted, sharded=True) == ("adamw_torch" if "adamw" in wanted else used)


def test_without_cuda_paged_adamw_is_adamw_bit_for_bit(tmp_path):
    settings = {"learning_rate": 0.01, "epochs": 2}
    plain, paged = (
        update(preference(tmp_path, pairs(), optimizer=name, **settings))
        for name in ("adamw_torch", "paged_adamw_32bit")
    )
    assert torch.equal(plain, paged)


def test_the_stand_in_is_told_once(capsys):
    nodes = distinct(expand([*SMOKE, "method=ws_bt,cw_po", "alignment.optimizer=paged_adamw_32bit"]))
    assert [value for node in nodes for _, value in items(node.config)].count("paged_adamw_32bit") == 2
    print_stand_in(nodes, Settings("store", device="cpu"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "adamw_torch stands in for paged_adamw_32bit" in said
    print_stand_in(distinct(expand(SMOKE)), Settings("store", device="cpu"))
    assert capsys.readouterr().err == ""


def test_the_papers_scale_trains_as_tables_8_and_9_say():
    from config.test_schema import composed

    cfg = composed("scale=paper")
    for training in (cfg.sft, cfg.alignment):
        assert training.precision == "bfloat16"
        assert training.optimizer == "paged_adamw_32bit"
        assert training.gradient_checkpointing
        assert (training.batch_size, training.micro_batch_size, training.weight_decay) == (64, 16, 0.05)
    assert (cfg.lora.enabled, cfg.lora.r, cfg.lora.alpha, cfg.lora.dropout) == (True, 8, 16, 0.05)
    assert cfg.checkpoint_minutes is not None


def test_a_new_setting_at_its_neutral_value_is_no_part_of_a_key():
    (default,) = expand(SMOKE)
    (rounded,) = expand([*SMOKE, "alignment.precision=bfloat16"])
    changed = {name for name, node in default.nodes.items() if rounded.nodes[name].key != node.key}
    assert changed == {"reference", "align", "generate", "divergence", "evaluate"}
    assert "precision" not in str(default.nodes["align"].hashed)
    assert default.nodes["reference"].hashed == {}


def test_an_explicit_precision_is_part_of_a_key_where_the_scale_says_native():
    (native,), (exact,) = expand(SMOKE), expand([*SMOKE, "alignment.precision=float32"])
    assert native.cfg.alignment.precision == "native"
    assert native.nodes["align"].key != exact.nodes["align"].key


CAPABILITIES = [
    ({"avx512_bf16": True}, "bfloat16"),
    ({"amx_bf16": True}, "bfloat16"),
    ({"avx2": True}, "float32"),
    ({}, "float32"),
]


@pytest.mark.parametrize(("capabilities", "precision"), CAPABILITIES)
def test_native_is_bfloat16_on_a_cpu_that_multiplies_it(tmp_path, monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert products_in("native", "cpu") == precision
    assert [products_in(named, "cpu") for named in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert products_in("native", "cuda:1") == "float32"
    native, named = (update(preference(tmp_path, pairs(), precision=word)) for word in ("native", precision))
    assert torch.equal(native, named)


@pytest.mark.parametrize("width", [40, 2 * BLOCK + 9])
def test_a_cpu_attends_to_16_bits_in_float32_and_gives_16_bits_back(width):
    heads = torch.randn(3, 2, 4, width, LEAST, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.zeros(2, 1, width, width).masked_fill_(
        torch.ones(width, width).triu(1).bool(), torch.finfo(torch.bfloat16).min
    )
    exact = scaled_dot_product_attention(*heads.float(), attn_mask=mask).transpose(1, 2)
    with computing_in("bfloat16", "cpu"):
        found, _ = attend(torch.nn.Module(), *heads, mask.bfloat16())
    assert torch.equal(found, exact.bfloat16())


ROUNDED = {"TF32": 10, "bfloat16": 7}  # bits of the mantissa of what is multiplied


@pytest.fixture(scope="module", params=["stories260k", "aidreams260k"])
def flips(request, shared):
    """Of 1,000 labels of a model with a random head, how many flip when products are rounded: expected, not counted.

    On 300 real pairs: a label flips with probability P(N(0, s) > |gap|), where s is the rounding's root mean square error.
    """
    folder = shared / "models" / request.param
    tokenizer = load_tokenizer(folder)
    model = new_annotator(folder, None, pad_id=tokenizer.pad_token_id, head_std=0.01, seed=0)
    sides = [encode(tokenizer, *zip(*rows)) for rows in short_dialogues(shared, 300)]

    def gaps() -> np.ndarray:
        a, b = (score_responses(model, rows, tokenizer.pad_token_id).double() for rows in sides)
        return (a - b).numpy()

    exact, linear, found = gaps(), torch.nn.functional.linear, {}
    with pytest.MonkeyPatch.context() as patch:
        for name, bits in ROUNDED.items():
            patch.setattr(
                torch.nn.functional, "linear", lambda x, w, b=None, n=bits: linear(rounded(x, n), rounded(w, n), b)
            )
            error = np.sqrt(np.mean((gaps() - exact) ** 2))
            found[name] = 1000 * norm.sf(np.abs(exact) / error).mean()
    return found


def short_dialogues(shared, count: int) -> tuple[list, list]:
    """(prompt, response) of the chosen and of the rejected side of the first pairs that differ in a short last response."""
    pairs = []
    with gzip.open(shared / "data" / "hh-rlhf" / "harmless-base" / "test.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            sides = [row[side].rpartition("\n\nAssistant:")[::2] for side in ("chosen", "rejected")]
            if sides[0] != sides[1] and all(len(b) > 0 and len(a + b) < 160 for a, b in sides):
                pairs.append(sides)
            if len(pairs) == count:
                break
    return tuple(zip(*pairs))


def rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """To the nearest number with so many bits of mantissa."""
    step = 1 << (23 - bits)
    return ((x.contiguous().view(torch.int32) + step // 2) & -step).view(torch.float32)


@pytest.mark.soak
def test_tf32_keeps_the_labels_and_bfloat16_does_not(flips):
    assert flips["TF32"] <= 1 < flips["bfloat16"]


@pytest.mark.parametrize("turned_on", ["no", "legacy", "backends"])  # torch has two interfaces, and refuses a mix
def test_products_are_exact_or_in_tf32_whoever_turned_it_on(turned_on):
    products = torch.backends.cuda.matmul
    try:
        if turned_on == "legacy":
            torch.set_float32_matmul_precision("high")
        elif turned_on == "backends":
            products.fp32_precision = "tf32"  # as TrainingArguments(tf32=True) does
            with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
                torch.get_float32_matmul_precision()
        with label_precision("cuda"):
            assert products.fp32_precision == "tf32"
        with probing(tiny_model()):
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == ("ieee" if turned_on == "no" else "tf32")
    finally:
        products.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


def test_only_cuda_computes_labels_in_tf32():
    for device, precision in (("cpu", "highest"), ("cuda", "high"), ("cuda:1", "high")):
        with label_precision(device):
            assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"
