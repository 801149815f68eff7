"""Evaluation as every Trainer has it: the same loss over rows that are not trained on, however they are batched."""

import json
import math
import os
import socket

import pytest
import torch
from datasets import Dataset
from tiny import arguments, tiny_model, tiny_tokenizer
from training.test_preference import TEXTS, WEIGHTS, losses, pairs, preference, trained

from cwpo.training.preference import LOGGED, PreferenceTrainer

TRAIN, HELD_OUT = pairs(8), pairs(11)[8:]
NAMES = {f"eval_{name}" for name in ("loss", *LOGGED)}


def evaluated(tmp_path, eval_dataset=HELD_OUT, *, train_dataset=TRAIN, token_budget=None, batch=8, **settings):
    args = arguments(tmp_path, rows=8, learning_rate=0.05, epochs=3)
    args.per_device_eval_batch_size = batch
    for name, value in settings.items():
        setattr(args, name, value)
    args.__post_init__()
    return PreferenceTrainer(
        tiny_model("llama"),
        args,
        train_dataset,
        eval_dataset,
        processing_class=tiny_tokenizer(),
        token_budget=token_budget,
    )


@torch.no_grad()
def right_values(trained_model, reference) -> dict[str, float]:
    """mean(w * l) and the rewards by plain forward passes of one sequence each."""

    def logp(model, prompt, response):
        ids = tiny_tokenizer()(f"{prompt} {response}")["input_ids"] + [2]
        start = len(tiny_tokenizer()(prompt)["input_ids"])
        scores = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return sum(scores[t - 1, ids[t]].item() for t in range(start, len(ids)))

    rewards = [
        [0.5 * (logp(trained_model, t[0], t[side]) - logp(reference, t[0], t[side])) for side in (1, 2)]
        for t in TEXTS[8:]
    ]
    margins = [chosen - rejected for chosen, rejected in rewards]
    weighted = [w * math.log1p(math.exp(-margin)) for w, margin in zip(WEIGHTS[8:], margins, strict=True)]
    return {
        "eval_loss": sum(weighted) / 3,
        "eval_rewards/chosen": sum(chosen for chosen, _ in rewards) / 3,
        "eval_rewards/margins": sum(margins) / 3,
        "eval_rewards/accuracies": sum(margin > 0 for margin in margins) / 3,
        "eval_weights/mean": sum(WEIGHTS[8:]) / 3,
    }


@pytest.mark.parametrize(("batch", "budget"), [(8, None), (2, None), (2, 20), (8, 1)])
@pytest.mark.parametrize("packed", [True, False])
def test_values_are_those_of_plain_sequences_in_any_batches(tmp_path, batch, budget, packed, monkeypatch):
    if not packed:
        monkeypatch.setattr("cwpo.models.packed.share_prompts", lambda pairs: False)
    trainer = evaluated(tmp_path, batch=batch, token_budget=budget)
    assert trainer.layout.packed == packed
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics.keys() >= NAMES
    expected = right_values(trainer.model, tiny_model("llama"))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert expected["eval_rewards/margins"] != pytest.approx(0, abs=0.01)


def test_before_training_every_margin_is_0(tmp_path):
    metrics = evaluated(tmp_path).evaluate()
    assert metrics["eval_rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert metrics["eval_loss"] == pytest.approx(math.log(2) * sum(WEIGHTS[8:]) / 3, abs=1e-5)


def test_evaluating_changes_nothing_in_training(tmp_path):
    trainer = evaluated(tmp_path / "a", eval_strategy="steps", eval_steps=1)
    weights = trained(trainer)
    assert torch.equal(weights, trained(preference(tmp_path / "b", TRAIN, learning_rate=0.05, epochs=3)))
    history = trainer.state.log_history
    assert len([row for row in history if row.keys() >= NAMES]) == 3
    assert next(row["rewards/margins"] for row in history if "loss" in row) == pytest.approx(0, abs=1e-5)
    assert not any("rewards/margins" in row for row in history if "eval_loss" in row)


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("rewards/margins", max)])
def test_the_best_model_is_loaded_at_the_end(tmp_path, metric, best):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = evaluated(
        tmp_path, **settings, load_best_model_at_end=True, metric_for_best_model=metric, save_total_limit=None
    )
    trainer.train()
    seen = [row[f"eval_{metric}"] for row in trainer.state.log_history if f"eval_{metric}" in row]
    assert len(seen) == 3
    assert trainer.evaluate()[f"eval_{metric}"] == pytest.approx(best(seen), abs=1e-6)


def test_several_sets_are_logged_by_their_names(tmp_path):
    trainer = evaluated(tmp_path, {"held_out": HELD_OUT, "seen": TRAIN[:3]})
    metrics = trainer.evaluate()
    alone = evaluated(tmp_path).evaluate()
    assert metrics["eval_held_out_loss"] == pytest.approx(alone["eval_loss"])
    assert metrics["eval_seen_loss"] == pytest.approx(losses(trainer)[:3].mean().item(), abs=1e-5)


def test_a_streamed_training_is_evaluated_too(tmp_path):
    trainer = evaluated(tmp_path, train_dataset=Dataset.from_list(TRAIN).to_iterable_dataset(), max_steps=1)
    trainer.train()
    expected = right_values(trainer.model, tiny_model("llama"))
    metrics = trainer.evaluate()
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def in_process(rank: int, processes: int, port: int, tmp_path) -> None:
    """Entry point of one of `processes` spawned processes, as torchrun would start it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    trainer = evaluated(tmp_path / f"{processes}-{rank}", batch=1)
    trainer.train()
    metrics = {name: trainer.evaluate()[name] for name in NAMES}
    (tmp_path / f"{processes}-{rank}.json").write_text(json.dumps(metrics))


@pytest.mark.slow
def test_two_processes_evaluate_each_row_once(tmp_path):
    for processes in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torch.multiprocessing.spawn(in_process, (processes, port, tmp_path), nprocs=processes)
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert first == second
    assert first == pytest.approx(one, rel=1e-4)
