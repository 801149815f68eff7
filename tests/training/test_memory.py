"""What training holds, how it makes do with less, and how often a step waits for the device."""

import gc
from collections import Counter

import pytest
import torch
from tiny import tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from training.test_online import online
from training.test_preference import close, pairs, preference, sft, update

from cwpo.data.batching import Budget, SequenceCollator, Whole
from cwpo.errors import InputError
from cwpo.models.policy import add_lora
from cwpo.training import memory
from cwpo.training.base import GlobalMeanTrainer
from cwpo.training.memory import Memory, back_off, measure

STEPS = {"batch_size": 8, "epochs": 2, "learning_rate": 0.01}


def live() -> int:
    """Bytes of all models' weights that this process holds, and of copies of them."""
    gc.collect()
    held = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor) and each.is_floating_point() and each.dim() > 1:
            held[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(held.values())


KINDS = {
    "offline": lambda folder, model: preference(folder, pairs(), model),
    "streamed": lambda folder, model: preference(folder, pairs(), model, steps=2),
    "online": lambda folder, model: online(folder, policy=model, epochs=2),
}


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_reference_share_one_base(tmp_path, kind):
    before = live()
    model = add_lora(tiny_model("llama", spread=4.0, hidden_size=64), r=1, alpha=2, dropout=0.0)
    base = live() - before
    trainer = KINDS[kind](tmp_path, model)
    trainer.train()
    assert trainer.state.log_history[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert live() - before < 1.5 * base


def short_of_memory(monkeypatch, most: int) -> Counter:
    """A device that cannot compute more than `most` tokens at once, as parts of a step come to it."""
    computed: Counter = Counter()
    plain = GlobalMeanTrainer.compute_loss

    def compute_loss(self, model, inputs, **kwargs):
        tokens = inputs.get("packed_ids", inputs.get("input_ids")).numel()
        loss = plain(self, model, inputs, **kwargs)
        if tokens > most:  # in the backward pass, with half of the gradients there
            loss.backward()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        computed[tokens] += 1
        return loss

    monkeypatch.setattr(GlobalMeanTrainer, "compute_loss", compute_loss)
    return computed


@pytest.mark.soak
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_step_that_runs_out_of_memory_is_made_in_smaller_parts(tmp_path, monkeypatch, family):
    whole = preference(tmp_path, pairs(11), tiny_model(family), **STEPS)
    expected = update(whole)
    computed = short_of_memory(monkeypatch, most=60)
    trainer = preference(tmp_path, pairs(11), tiny_model(family), budget=200, **STEPS)
    assert close(update(trainer), expected, rel=1e-4)
    assert max(computed) <= 60 < 200 and trainer.budget.tokens < 200
    for ours, theirs in zip(trainer.state.log_history, whole.state.log_history, strict=True):
        for name in {"loss", "rewards/margins", "weights/mean"} & theirs.keys():  # nothing is counted twice
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


def test_a_row_that_does_not_fit_is_one_clear_error(tmp_path, monkeypatch):
    short_of_memory(monkeypatch, most=1)
    with pytest.raises(InputError, match="a single row of .* tokens does not fit .*; use gradient_checkpointing"):
        preference(tmp_path, pairs(11), budget=200, **STEPS).train()


def test_a_batch_that_was_loaded_before_the_budget_shrank_shrinks_it_no_further():
    rows = [{"ids": [1] * 10, "start": 2}] * 8
    whole, budget = Whole(rows, SequenceCollator(0)), Budget(80)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
    for _ in range(2):  # of this step and of the next, which is in memory already
        made = back_off(budget, {"micro": whole.parts(80), "whole": whole}, error)
        assert (len(made["micro"]), budget.tokens) == (2, 40)
    assert len(back_off(budget, made, error)["micro"]) == 4 and budget.tokens == 20


def test_auto_takes_as_many_tokens_as_the_memory_of_the_first_steps_says(tmp_path, monkeypatch):
    """1,000 bytes are free after the first step, of which 85 % may be used, and a part took 10 bytes a token."""
    parts: list[int] = []
    plain = GlobalMeanTrainer.compute_loss

    def compute_loss(self, model, inputs, **kwargs):
        parts.append(inputs["packed_ids"].numel())
        return plain(self, model, inputs, **kwargs)

    monkeypatch.setattr(GlobalMeanTrainer, "compute_loss", compute_loss)
    monkeypatch.setattr("cwpo.training.base.memory_of", lambda device: Memory(1500, 500, 500 + 10 * parts[-1]))
    expected = update(preference(tmp_path, pairs(11), **STEPS))
    trainer = preference(tmp_path, pairs(11), budget="auto", **STEPS)
    assert trainer.budget == Budget(2048, measured=True)
    assert close(update(trainer), expected, rel=1e-4)
    assert trainer.budget == Budget(85, measured=False)
    budget = Budget(2048, measured=True)
    measure(budget, Memory(10**12, 0, 100), 10)
    assert budget.tokens == memory.MOST


class Waits(TorchDispatchMode):
    """Counts operations whose result the host waits for: numbers, and shapes that depend on values."""

    NAMES = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith(self.NAMES):
            self.counted[name] += 1
        return func(*args, **(kwargs or {}))


def waits(tmp_path, rows: int, **settings) -> Counter:
    """Of one training over `rows` pairs in steps of 2, each pair a part of its own."""
    trainer = preference(tmp_path, pairs(rows), budget=1, batch_size=2, **settings)
    trainer.args.logging_steps = 1000
    with Waits() as mode:
        trainer.train()
    return mode.counted


def test_a_step_of_packed_pairs_waits_once(tmp_path):
    """Whatever its parts: for whether its losses and its gradient are finite. Steps differ by nothing else."""
    few, more = (waits(tmp_path, rows, max_grad_norm=1.0, optimizer="adamw_torch") for rows in (2, 8))
    assert sum((more - few).values()) == 3  # 4 steps instead of 1


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_sft_of_many_logits_runs_the_head_in_chunks(tmp_path, monkeypatch, family):
    whole = sft(tmp_path, model=tiny_model(family))
    monkeypatch.setattr("cwpo.training.sft.LOGITS", 100)
    monkeypatch.setattr("cwpo.models.heads.LOGITS", 100)
    chunked = sft(tmp_path, model=tiny_model(family))
    assert (whole.head is None, chunked.head is None) == (True, False)
    assert close(update(chunked), update(whole), rel=1e-4)
