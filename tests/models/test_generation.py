"""Sampling: from the right distribution, and each response from its own seed only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from differential.plain import noise as plain_noise
from scipy import stats
from tiny import EOS, FAMILIES, tiny_model, tiny_tokenizer
from transformers import GenerationConfig, LlamaConfig

from cwpo.errors import InputError
from cwpo.models.generation import GumbelSampler, gumbel, prompt_seed, sample_responses, step_keys

PROMPTS = ["tell me about bread", "ask", "ask me", "tell me about bridges is very good", "bread"]
SEEDS = [prompt_seed(0, "sft", str(i)) for i in range(len(PROMPTS))]
GOOD = tiny_tokenizer().convert_tokens_to_ids("good")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return tiny_model(request.param, spread=5.0)


def sample(model, prompts=PROMPTS, seeds=SEEDS, **settings) -> list[dict]:
    settings = {"temperature": 0.95, "max_new_tokens": 8, "batch_size": 2} | settings
    return sample_responses(model, tiny_tokenizer(), prompts, seeds, **settings)


class Fixed(torch.nn.Module):
    """Stands in for a model: `generate` answers with the given new tokens."""

    config = LlamaConfig(num_hidden_layers=1)

    def __init__(self, new: list[list[int]]) -> None:
        super().__init__()
        self.new, self.weight = torch.tensor(new), torch.nn.Parameter(torch.zeros(1))

    def generate(self, input_ids, max_new_tokens, **kwargs):
        return SimpleNamespace(sequences=torch.cat([input_ids, self.new[:, :max_new_tokens]], dim=1))


def noise(seeds, steps: int, columns: int) -> np.ndarray:
    """(seeds, steps, columns)"""
    keys = torch.from_numpy(np.stack([step_keys(seed, steps) for seed in seeds]))
    return gumbel(keys.flatten(0, 1), columns).view(len(keys), steps, columns).numpy()


def test_noise_is_that_of_plain_integers_and_its_own_seed_and_step_only():
    right = [[plain_noise(seed, step, 300) for step in range(3)] for seed in SEEDS]
    np.testing.assert_allclose(noise(SEEDS, 3, 300), right, rtol=1e-5, atol=1e-6)
    assert np.array_equal(noise(SEEDS, 3, 300), noise(SEEDS[::-1], 9, 500)[::-1, :3, :300])


def test_noise_is_gumbel_in_its_whole_range():
    drawn = noise(range(40), 5, 5000).ravel()
    assert stats.kstest(drawn, stats.gumbel_r.cdf).pvalue > 1e-3
    tails = stats.gumbel_r.cdf([-2, -1.5, 0, 3, 6, 9, 11])  # 17 of the million lie above 11
    counts = np.histogram(stats.gumbel_r.cdf(drawn), [0, *tails, 1])[0]
    assert stats.chisquare(counts, len(drawn) * np.diff([0, *tails, 1])).pvalue > 1e-3
    assert np.isfinite(drawn).all() and drawn.min() > -2.9 and drawn.max() < 22.2


@pytest.mark.parametrize("seeds", [range(64), [2**40 + 2**32 * i for i in range(64)], SEEDS * 12 + [7] * 4])
def test_noise_of_neighbours_is_independent(seeds):
    """Of tokens, steps and seeds that follow each other, and which token wins: chi-square over quartiles and pairs."""
    ranks = np.floor(4 * stats.gumbel_r.cdf(noise(dict.fromkeys(seeds), 16, 512))).astype(int)
    pairs = {
        "tokens": (ranks[..., :-1], ranks[..., 1:]),
        "far tokens": (ranks[..., :256], ranks[..., 256:]),
        "steps": (ranks[:, :-1], ranks[:, 1:]),
        "seeds": (ranks[:-1], ranks[1:]),
    }
    for name, (one, other) in pairs.items():
        table = np.bincount(4 * one.ravel() + other.ravel(), minlength=16).reshape(4, 4)
        assert stats.chisquare(table.ravel()).pvalue > 1e-3, name
    winners = noise(range(200), 40, 20).argmax(-1)
    assert stats.chisquare(np.bincount(winners.ravel(), minlength=20)).pvalue > 1e-3
    table = np.histogram2d(winners[:, :-1].ravel(), winners[:, 1:].ravel(), bins=20)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_sample_is_the_same_alone_and_in_any_batch(model):
    together = sample(model)
    assert len({row["response"] for row in together}) >= 4
    assert together == [sample(model, [p], [s])[0] for p, s in zip(PROMPTS, SEEDS)]
    assert together == sample(model, batch_size=5)
    assert together == sample(model, token_budget=20)
    assert together == sample(model, PROMPTS[::-1], SEEDS[::-1])[::-1]


def test_rows_that_end_leave_the_batch_and_the_others_do_not_notice(model, monkeypatch):
    seeds = [prompt_seed(0, "test", str(i)) for i in range(20)]
    sizes, whole = [], type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, **k: sizes.append(len(k["input_ids"])) or whole(self, **k))
    samples, sized = [], []
    for fewest in (100, 2):
        monkeypatch.setattr("cwpo.models.generation.FEWEST", fewest)
        samples.append(sample(model, PROMPTS * 4, seeds, max_new_tokens=20, batch_size=20))
        sized.append(sizes.copy())
        sizes.clear()
    assert samples[0] == samples[1]
    assert len({row["n_tokens"] for row in samples[0]}) > 3
    assert set(sized[0]) == {20}
    assert sized[1] == sorted(sized[1], reverse=True)
    assert sized[1][-1] <= 10


def test_a_prompt_without_tokens_is_refused():
    say = {"temperature": 1.0, "max_new_tokens": 2, "batch_size": 2}
    sample_responses(tiny_model(), tiny_tokenizer(), ["ask", ""], [1, 2], **say)  # BOS alone
    with pytest.raises(InputError, match="prompt 1 is empty and the tokenizer adds no BOS"):
        sample_responses(tiny_model(), tiny_tokenizer("$A"), ["ask", ""], [1, 2], **say)


def test_another_seed_gives_another_sample(model):
    others = [prompt_seed(1, "sft", str(i)) for i in range(len(PROMPTS))]
    assert all(a["response"] != b["response"] for a, b in zip(sample(model), sample(model, seeds=others)))


def test_prompt_seeds_differ_by_seed_model_and_prompt():
    seeds = {prompt_seed(s, tag, i) for s in range(3) for tag in ("sft", "aligned") for i in "abcd"}
    assert len(seeds) == 24
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert prompt_seed(0, "sft", "a") == prompt_seed(0, "sft", "a")


@pytest.mark.parametrize(("temperature", "top_k"), [(0.5, 0), (0.95, 0), (2.0, 0), (0.95, 3)])
def test_draws_follow_the_softmax_of_the_top_k_logits_at_that_temperature(temperature, top_k):
    logits = torch.tensor([2.0, -1.0, 1.0, 0.0, float("-inf")])
    n = 4000
    sampler = GumbelSampler([prompt_seed(0, "test", str(i)) for i in range(n)], temperature, 1, top_k)
    drawn = sampler(torch.zeros(n, 1, dtype=torch.int64), logits.expand(n, -1)).argmax(dim=1)
    counts, kept = np.bincount(drawn.numpy(), minlength=5), logits.topk(top_k or 4).indices.sort().values
    assert counts.sum() == counts[kept].sum()
    expected = n * torch.softmax(logits[kept].double() / temperature, dim=0).numpy()
    assert stats.chisquare(counts[kept], expected).pvalue > 1e-3


def test_successive_draws_of_a_row_are_independent():
    n = 2000
    sampler = GumbelSampler([prompt_seed(0, "test", str(i)) for i in range(n)], 1.0, 2)
    first, second = (sampler(torch.zeros(n, 1), torch.zeros(n, 2)).argmax(dim=1).numpy() for _ in range(2))
    assert stats.chi2_contingency(np.histogram2d(first, second, bins=2)[0]).pvalue > 1e-3


def test_the_first_token_follows_the_models_own_distribution():
    model, n = tiny_model("llama", spread=3.0), 1000
    prompt = "tell me about bread"
    with torch.no_grad():
        logits = model(**tiny_tokenizer()(prompt, return_tensors="pt", return_token_type_ids=False)).logits[0, -1]
    expected = n * torch.softmax(logits.double() / 0.95, dim=0).numpy()
    rows = sample(
        model, [prompt] * n, [prompt_seed(0, "test", str(i)) for i in range(n)], max_new_tokens=1, batch_size=n
    )
    words = range(4, len(expected))  # the special tokens are not in the text: EOS ends it, the rest is skipped
    counts = [sum(row["response"] == tiny_tokenizer().decode([i]) for row in rows) for i in words]
    counts, expected = [*counts, n - sum(counts)], [*expected[4:], expected[:4].sum()]
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("tokens", "response", "n_tokens", "truncated"),
    [([GOOD, EOS, GOOD], "good", 2, False), ([GOOD] * 3, "good good good", 3, True), ([EOS, EOS], "", 1, False)],
)
def test_a_response_ends_at_eos_and_counts_it_or_is_truncated(tokens, response, n_tokens, truncated):
    assert sample(Fixed([tokens]), ["ask"], [0], max_new_tokens=3) == [
        {"response": response, "n_tokens": n_tokens, "truncated": truncated, "same_tokens": True}
    ]


def test_lengths_and_truncation_of_real_samples(model):
    rows = sample(model, PROMPTS * 8, [prompt_seed(0, "test", str(i)) for i in range(40)], batch_size=20)
    assert {row["truncated"] for row in rows} == {True, False}
    for row in rows:
        assert row["n_tokens"] == 8 if row["truncated"] else 1 <= row["n_tokens"] <= 8


def test_the_checkpoints_own_generation_settings_are_ignored(model):
    expected = sample(model)
    model.generation_config = GenerationConfig(
        repetition_penalty=5.0, do_sample=True, top_p=0.1, temperature=0.1, suppress_tokens=[GOOD], min_length=30
    )
    assert sample(model) == expected


def test_sampling_leaves_the_global_random_state_alone(model):
    before = torch.get_rng_state()
    sample(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_top_1_is_greedy_search_and_top_0_draws_from_all(model):
    tokenizer = tiny_tokenizer()
    greedy = sample(model, top_k=1)
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=8)
    for prompt, row in zip(PROMPTS, greedy):
        ids = tokenizer(prompt, return_tensors="pt")
        new = model.generate(**ids, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
        assert row["n_tokens"] == len(new[0]) - ids["input_ids"].shape[1]
    assert sample(model, top_k=0) == sample(model) != greedy
