"""Exactly the log-probs and gradients of plain sequences: of packed pairs, and of every architecture."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import architecture, right_logp
from transformers import (
    AutoModelForCausalLM,
    CpmAntConfig,
    CpmAntForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from cwpo.data import packing
from cwpo.data.batching import PairCollator, collate_sequences
from cwpo.data.packing import pack_pairs
from cwpo.data.toy import build_tokenizer
from cwpo.errors import InputError
from cwpo.models import row_attention
from cwpo.models.heads import token_losses
from cwpo.models.logprobs import in_lines, packed_logps, response_logps
from cwpo.models.packed import exact_layout, score_pairs, sequences_of, tensors
from cwpo.models.toy import toy_config


def pair(prompt, chosen, rejected):
    n = len(prompt)
    return {"chosen_ids": prompt + chosen, "chosen_start": n, "rejected_ids": prompt + rejected, "rejected_start": n}


def toy(name):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(toy_config(name, build_tokenizer())).eval()


EXAMPLE = [pair([1, 7], [5, 9], [6, 9]), pair([3], [9], [4, 9])]


def test_a_model_that_sees_later_tokens_is_refused():
    """Nothing in the config of CPM-Ant tells that each of its tokens attends to all others."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "dim_head": 8, "dim_ff": 32, "num_hidden_layers": 1}
    model = CpmAntForCausalLM(CpmAntConfig(vocab_size=32, prompt_length=2, **sizes))
    with pytest.raises(InputError, match="CpmAntForCausalLM, gives a token another probability when later tokens"):
        exact_layout(model, EXAMPLE, 0)


def test_worked_example():
    batch = pack_pairs(EXAMPLE)
    assert batch["packed_ids"].tolist() == [[1, 7, 5, 9, 6, 9, 3, 9, 4, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3, 0, 1, 1, 2]]
    assert batch["slot"].tolist() == batch["token"][:10].tolist() == list(range(10))
    assert batch["predictor"].tolist() == [1, 2, 1, 4, 6, 6, 8]
    assert batch["target"].tolist() == [5, 9, 6, 9, 9, 4, 9]
    assert batch["sequence"].tolist() == [0, 0, 2, 2, 1, 3, 3]
    assert batch["last"].tolist() == [3, 7, 5, 9]
    assert batch["attention"].shape == (1, 1, 32, 32)
    assert batch["attention"][0, 0, :10, :10].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 1, 1],
    ]


def test_an_empty_response_ends_with_its_prompt():
    assert pack_pairs([pair([1, 7], [5], []), pair([1, 7], [], [5])])["last"].tolist() == [2, 4, 1, 5]


def test_full_rows_stay_rows():
    batch = pack_pairs(EXAMPLE, full=10 / 32)
    assert batch["packed_ids"][0, :10].tolist() == [1, 7, 5, 9, 6, 9, 3, 9, 4, 9]
    assert batch["packed_ids"].shape == batch["position_ids"].shape == (1, 32) and "slot" not in batch
    assert batch["last"].tolist() == [3, 7, 5, 9]
    assert batch["predictor"].tolist() == [1, 2, 1, 4, 6, 6, 8]


def test_wide_rows_are_always_laid(monkeypatch):
    monkeypatch.setattr(packing, "WIDE", 32)
    assert pack_pairs(EXAMPLE, full=10 / 32)["packed_ids"].shape == (1, 10)


def test_rows_are_filled_again_from_the_line():
    pairs = [pair([1] * 10, [5, 2], [6, 2]), pair([3] * 20, [7, 2], [8, 2]), pair([4] * 12, [2], [9, 2])]
    batch = pack_pairs(pairs)
    rows = batch["packed_ids"][0][batch["token"]].view(2, 32)
    assert rows[:, :24].tolist() == [[3] * 20 + [7, 2, 8, 2], [4] * 12 + [2, 9, 2] + [1] * 9]
    assert batch["packed_ids"].shape == (1, 53) and batch["slot"].tolist()[:14] == list(range(47, 61))


def pairs_of(lengths):
    """Pairs of random tokens. `lengths`: tokens of the prompt and of both responses, without their EOS."""
    generator = torch.Generator().manual_seed(3)

    def ids(n):
        return torch.randint(4, 300, (n,), generator=generator).tolist()

    return [pair(ids(prompt), [*ids(a), 2], [*ids(b), 2]) for prompt, a, b in lengths]


def random_pairs():
    return pairs_of([(3 + i % 4, 1 + i % 5, 1 + (2 * i) % 3) for i in range(9)])


def test_lines_by_hand():
    batch = pack_pairs(EXAMPLE, lines=True)
    assert batch["place"].tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 6, 8, 9]
    assert batch["first"].tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 11, 12]
    assert batch["ends"].tolist() == [0, 4, 8, 10, 13] and batch["most"] == 4
    assert not {"attention", "slot", "token"} & batch.keys()


LAYOUTS = {"rows": {"full": 0.0}, "line": {"full": 2.0}, "lines": {"lines": True}}


@pytest.mark.parametrize("block", [5, 128])
@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["opt-32x2", "qwen2-32x2", "llama-32x2"])
def test_log_probs_and_gradients_equal_plain_sequences(name, settings, block, monkeypatch):
    monkeypatch.setattr(row_attention, "BLOCK", block)
    compare(toy(name), settings)


def test_in_wide_rows_each_response_stands_behind_its_own_prompt_where_that_is_cheaper(monkeypatch):
    monkeypatch.setattr(packing, "WIDE", 4)
    monkeypatch.setattr(packing, "ROW_TOKENS", 4)
    batch = pack_pairs(EXAMPLE)
    assert batch["slot"].tolist() == [0, 1, 2, 3, 6, 7, 12, 13, 9, 10]
    assert batch["token"].tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 8, 9, 0, 6, 7, 0, 0]
    assert batch["attention"][2, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert pack_pairs([pair([1, 7, 5, 8, 6, 4], [9], [5, 9])])["token"].tolist() == list(range(9))


@pytest.mark.parametrize("block", [5, 128])
@pytest.mark.parametrize("name", ["opt-32x2", "qwen2-32x2"])
def test_log_probs_and_gradients_with_prompts_in_two_rows_equal_plain_sequences(name, block, monkeypatch):
    monkeypatch.setattr(row_attention, "BLOCK", block)
    monkeypatch.setattr(packing, "WIDE", 4)
    swapped = [
        pair(each["chosen_ids"][-2:], each["chosen_ids"], each["rejected_ids"][: 3 + i % 2])
        for i, each in enumerate(random_pairs())
    ]
    assert pack_pairs(swapped)["token"].bincount()[1:].max() == 2
    compare(toy(name), {}, swapped)


@pytest.mark.parametrize("scale", [None, 0.7])
def test_narrow_heads_are_padded_without_effect(scale):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, num_hidden_layers=2, **sizes)).eval()
    for layer in model.model.layers:
        layer.self_attn.scaling = scale or layer.self_attn.scaling
    compare(model, LAYOUTS["line"])


def compare(model, settings, pairs=None):
    """Compares packed log-probs and gradients with those of plain sequences."""
    pairs = pairs or random_pairs()
    assert exact_layout(model, pairs, pad_id=0).packed
    coefficients = torch.linspace(-1, 1, 2 * len(pairs))
    results = []
    for packed in (False, True):
        batch = pack_pairs(pairs, **settings) if packed else PairCollator(0)(pairs)
        logps = packed_logps(model, batch) if packed else response_logps(model, **batch)
        model.zero_grad()
        (coefficients * logps).sum().backward()
        results.append((logps.detach(), [p.grad.clone() for p in model.parameters()]))
    (plain, plain_grads), (packed, packed_grads) = results
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)
    for a, b in zip(packed_grads, plain_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gemma", "qwen3", "mixtral", "gpt_neox"])
def test_lines_in_bfloat16_are_as_near_as_rows(name):
    """The kernel's layout rounds as rows do; heads of keys and values may be fewer, and scales other than usual."""
    model = architecture(name)
    pairs = random_pairs()
    right = packed_logps(model, pack_pairs(pairs, full=2.0))
    torch.testing.assert_close(packed_logps(model, pack_pairs(pairs, lines=True)), right, rtol=1e-4, atol=1e-4)
    model.bfloat16()
    errors = [
        (packed_logps(model, pack_pairs(pairs, **LAYOUTS[kind])) - right).abs().max() for kind in ("line", "lines")
    ]
    assert errors[1] <= 2 * errors[0] + 0.1


@pytest.mark.parametrize("name", ["opt-32x2", "qwen2-32x2", "llama-32x2"])
def test_autocast_hands_16_bits_to_the_kernel_whatever_the_dtype_of_the_weights(name, monkeypatch):
    """Rotary positions would otherwise leave queries and keys of float32 weights in float32."""
    seen, whole = [], row_attention._by_sequence
    monkeypatch.setattr(row_attention, "_by_sequence", lambda *a: seen.append([x.dtype for x in a[:3]]) or whole(*a))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        packed_logps(toy(name), pack_pairs(random_pairs(), lines=True))
    assert seen == [[torch.bfloat16] * 3] * 2


@pytest.mark.parametrize(("size", "fits"), [(64, True), (80, True), (256, True), (12, False), (264, False)])
def test_the_kernel_takes_heads_of_multiples_of_8_in_16_bits(size, fits):
    states = [torch.zeros(4, 2, size, dtype=torch.bfloat16)] * 3
    assert row_attention._fits_kernel(*states) is fits
    assert not row_attention._fits_kernel(states[0].float(), *states[1:])


@pytest.mark.parametrize(("capability", "lines"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_a_gpu_without_the_kernel_gets_rows(capability, lines, monkeypatch):
    weight = SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.bfloat16)
    model: Any = SimpleNamespace(get_output_embeddings=lambda: SimpleNamespace(weight=weight))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert in_lines(model) is lines


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["opt-32x2", "qwen2-32x2"])
def test_the_kernel_gives_the_log_probs_and_gradients_of_sequences_one_at_a_time(name, monkeypatch):
    model = toy(name).cuda().bfloat16()
    pairs = random_pairs()
    assert in_lines(model)
    batch = tensors(pack_pairs(pairs, lines=True), "cuda")
    results = []
    for kernel in (row_attention._by_kernel, row_attention._by_sequence):
        monkeypatch.setattr(row_attention, "_by_kernel", kernel)
        model.zero_grad()
        logps = packed_logps(model, batch)
        logps.sum().backward()
        results.append((logps.detach(), torch.cat([p.grad.flatten().float() for p in model.parameters()])))
    (ours, our_grads), (right, right_grads) = results
    torch.testing.assert_close(ours, right, rtol=0.02, atol=0.1)
    assert (our_grads - right_grads).norm() < 0.05 * right_grads.norm()


def test_a_model_that_has_attended_in_rows_is_saved_as_any_other(tmp_path):
    model = toy("opt-32x1")
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    before = model(ids, attention_mask=mask).logits
    packed_logps(model, pack_pairs(random_pairs()))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, before)
    model.save_pretrained(tmp_path)
    assert "cwpo" not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(ids, attention_mask=mask).logits, before)


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_the_chunked_head_equals_the_whole_one(chunk):
    torch.manual_seed(0)
    head, target = torch.nn.Linear(8, 20, bias=False), torch.randint(20, (19,))
    hidden, coefficients = torch.randn(19, 8), torch.linspace(-1, 1, 19)
    results = []
    for size in (chunk, 19):
        head.zero_grad()
        states = hidden.clone().requires_grad_()
        losses = token_losses(head, states, target, size)
        (coefficients * losses).sum().backward()
        results.append((losses.detach(), states.grad, head.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["opt-32x2", "qwen2-32x2", "llama-32x2"])
@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_scores_of_pairs_do_not_depend_on_the_token_budget(name, budget):
    model = toy(name)
    plain = score_pairs(model, random_pairs(), 0)
    packed = score_pairs(model, random_pairs(), 0, budget)
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)
    assert (plain[0] - plain[1]).abs().min() > 1e-3


def test_a_model_that_ignores_the_mask_is_not_packed():
    class Scaled(GPT2LMHeadModel):
        def get_output_embeddings(self):
            return torch.nn.Linear(32, 352)  # not what its logits come from

    model = Scaled(GPT2Config(vocab_size=352, n_embd=32, n_layer=1, n_head=2, n_positions=64))
    assert not exact_layout(model, random_pairs(), pad_id=0).packed


def test_pairs_with_different_prompt_tokens_are_not_packed():
    model = toy("opt-32x1")
    pairs = random_pairs()
    pairs[5]["rejected_ids"] = [5, *pairs[5]["rejected_ids"][1:]]
    assert not exact_layout(model, pairs, pad_id=0).packed


SHORT = [(3, 2, 4), (5, 4, 1)]
MIXED = [*SHORT, (40, 20, 8), (20, 3, 12), (2, 50, 30), (30, 1, 2)]
WINDOWS = ("mistral", "qwen2", "gemma2", "gemma3", "olmo3")
BY_LENGTH = ("dynamic", "longrope")


@pytest.mark.parametrize("name", [*WINDOWS, *BY_LENGTH])
def test_the_longest_pairs_decide_wherever_they_stand(name):
    model = architecture(name)
    short = exact_layout(model, pairs_of(SHORT), pad_id=0)
    assert short.packed == (name != "gemma2") and not short.by_length
    for lengths in (MIXED, MIXED[::-1]):
        assert not exact_layout(model, pairs_of(lengths), pad_id=0).packed


def test_dynamic_positions_forget_what_was_read_before():
    # after 60 tokens, 40 are computed with the frequencies of 60 by a plain forward pass
    model, pairs = architecture("dynamic"), pairs_of([(50, 8, 8), (30, 8, 8)])
    model(input_ids=torch.tensor([pairs[0]["chosen_ids"]]))
    chosen, _ = score_pairs(model, pairs, 0, token_budget=1)
    assert chosen.tolist() == pytest.approx(
        [right_logp(model, p["chosen_ids"], p["chosen_start"]) for p in pairs], abs=2e-3
    )


@pytest.mark.parametrize("name", ["mistral", "gemma2", "cohere", "dynamic"])
def test_plain_layouts_give_the_gradients_of_plain_sequences(name, monkeypatch):
    monkeypatch.setattr("cwpo.models.heads.LOGITS", 300 * 7)  # the head runs in chunks
    model, pairs = architecture(name), pairs_of(MIXED)
    layout, batch = exact_layout(model, pairs, 0), PairCollator(0)(pairs)
    results = []
    for compute in (lambda: layout.plain(model, **batch), lambda: one_by_one(model, pairs)):
        model.zero_grad()
        (compute() * torch.linspace(-1, 1, 2 * len(pairs))).sum().backward()
        results.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    ours, plain = results
    assert (ours - plain).norm() < 1e-4 * plain.norm()


def one_by_one(model, pairs):
    model.eval()
    model(input_ids=torch.tensor([[5]]))  # dynamic RoPE: as a model that has read nothing before
    rows = sequences_of(pairs)
    shortest_first = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    logps = {i: response_logps(model, **collate_sequences([rows[i]], 0))[0] for i in shortest_first}
    return torch.stack([logps[i] for i in range(len(rows))])
