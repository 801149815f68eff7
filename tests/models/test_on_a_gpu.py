"""What only a GPU shows: the same draws as on a CPU, labels in TF32, batches by its memory, and speed. `make test-gpu`."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from cwpo.bench import measure, sides
from cwpo.bench.workloads import WORKLOADS
from cwpo.execution import workers
from cwpo.models.annotator import score_responses
from cwpo.models.generation import gumbel, sample_responses, step_keys
from cwpo.models.memory import sampling_batches

pytestmark = pytest.mark.gpu
ROWS = [([1, *np.random.default_rng(i).integers(4, 16, 3 + i % 9)], 2) for i in range(2000)]


def test_noise_and_samples_are_those_of_a_cpu():
    keys = torch.from_numpy(np.concatenate([step_keys(seed, 4) for seed in range(64)]))
    ours, theirs = gumbel(keys.cuda(), 50_000).cpu(), gumbel(keys, 50_000)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert torch.equal(ours.argmax(dim=1), theirs.argmax(dim=1))
    said = [
        sample_responses(
            tiny_model("llama").to(device),
            tiny_tokenizer(),
            ["tell me", "bread is warm", "ask"] * 40,
            range(120),
            temperature=0.95,
            max_new_tokens=12,
            batch_size=120,
        )
        for device in ("cpu", "cuda")
    ]
    assert said[0] == said[1]


def test_labels_in_tf32_are_those_in_float32():
    model = tiny_model("llama", labels=1)
    ours, theirs = (score_responses(model.to(device), ROWS, 0, 500).view(2, -1) for device in ("cuda", "cpu"))
    assert ((ours[0] > ours[1]) != (theirs[0] > theirs[1])).float().mean() <= 0.001


def test_a_batch_of_samples_fits_into_free_memory():
    model = tiny_model("llama").cuda()
    free = torch.cuda.mem_get_info()[0]
    batches = sampling_batches(model, [10] * 100)
    assert sum(map(len, batches)) == 100
    whole = sampling_batches(model, [10_000] * 10**5)
    assert free / 4 < len(whole[0]) * 10_000 * 32 * 4 <= free


def test_a_worker_sees_the_gpu_that_it_is_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert workers.gpu_names() == ["0"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """OPT-1.3B's shape with LoRA: 12 steps of 64 pairs, sampling and scoring."""
    cfg = SimpleNamespace(device="cuda", threads=None, token_budget=8192, data=None, tokenizer=None)
    job, tokens = measure.set_up(WORKLOADS["lora_1_3b"], cfg, tmp_path_factory.mktemp("bench"), 768)
    job |= {"batch_size": 64, "prompts": 32, "new_tokens": 64}
    peak = measure.run_side(job | {"side": "matmul"})["peak_flops"]
    trained = measure.run_side(job | {"side": "cwpo"})
    read = measure.run_side(job | {"side": "inference"})
    trained["share_of_peak"] = tokens["operations"] / 12 / trained["step_seconds"] / peak
    print(f"\n{torch.cuda.get_device_name()}: {trained}\n{read}")
    return trained | read


def test_steps_are_timed_and_the_first_comes_within_20_seconds(measured):
    steps = [float(step) for step in measured["steps"].split()]
    assert len(steps) == 12 and steps[0] <= 20
    assert measured["step_seconds"] <= sides.steady(steps) * 1.01


def test_sampling_takes_at_most_1_2_times_transformers_own(measured):
    assert measured["sampling_seconds"] <= 1.2 * measured["transformers_sampling_seconds"]
