"""One cell of the grid: what cwpo computes beside what plain transformers computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from architectures import architecture
from differential import plain
from differential.grid import Cell
from many_tokenizers import OURS, tokenizer_of
from peft import LoraConfig, get_peft_model
from tiny import arguments
from torch import Tensor

from cwpo.models import generation
from cwpo.models.annotator import classifier_problem, new_annotator, score_responses
from cwpo.models.pair_scores import score_gaps
from cwpo.training.preference import PreferenceTrainer

LONG = (
    "tell me about bread . Once upon a time there was a little girl named Lily and she went to the park with her mom , and "
    "they played all day with very good bread"
)
PAIRS = [
    ("ask me about bridges", " is good", " very cold day, it's raining"),
    (LONG, " She went home warm and they played, with bread", " It is 4."),
]
WEIGHTS = torch.tensor([0.9, 0.4])
SEEDS = (1, 2)
MOST = 9  # new tokens: more than one round of sampling
SOME = ["q_proj", "v_proj", "o_proj", "in_proj"]  # where PEFT cannot adapt every linear layer
EXACT = 1e-3  # nats; float32 is off by up to 1e-4
ROUNDED = 4.0  # times the error of plain transformers at the same precision, one sequence at a time


class Tolerance(NamedTuple):
    """Of log-probs (nats), the loss, and the norm of its gradient (relative)."""

    logps: float
    loss: float
    norm: float


def model_of(cell: Cell) -> Any:
    tokenizer = tokenizer_of(cell.tokenizer)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    model = architecture(cell.family, vocab_size=len(tokenizer), **ids)
    if cell.precision == "bfloat16 weights":
        model.to(torch.bfloat16)
    return model if cell.adapter == "none" else adapted(model, cell.adapter)


def adapted(model: Any, kind: str) -> Any:
    """The model with adapters of random weights; DoRA's magnitudes are moved too."""
    settings: dict[str, Any] = {"r": 2, "lora_alpha": 4, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    settings |= {"use_rslora": kind == "rsLoRA", "use_dora": kind == "DoRA"}
    torch.manual_seed(1)
    try:
        wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules="all-linear", **settings))
    except ValueError:
        wrapped = get_peft_model(model, LoraConfig(target_modules=SOME, **settings))
    for name, parameter in wrapped.named_parameters():
        parameter.data *= 1.1 if "magnitude" in name else 1.0
    return wrapped.eval()


def rows_of(cell: Cell) -> list[dict[str, Any]]:
    """Pairs of texts, or of messages where the tokenizer has a chat template."""
    chat = "template" in cell.tokenizer
    return [
        {
            "prompt": [{"role": "user", "content": prompt}] if chat else prompt,
            "chosen": chosen,
            "rejected": rejected,
            "weight": weight,
        }
        for (prompt, chosen, rejected), weight in zip(PAIRS, WEIGHTS.tolist(), strict=True)
    ]


def compare(cell: Cell, folder: Path) -> None:
    """Raises AssertionError where cwpo's numbers or samples are not those of plain transformers."""
    tokenizer, model = copy.deepcopy(tokenizer_of(cell.tokenizer)), model_of(cell)
    if cell.adapter == "none":
        model.save_pretrained(folder / "model")
    sequences = compare_training(cell, model, tokenizer, folder)
    compare_samples(cell, model_of(cell), tokenizer)
    if cell.adapter == "none" and classifier_problem(folder / "model", None, "model") is None:
        compare_rewards(folder, sequences, tokenizer.pad_token_id)


def compare_training(cell: Cell, model: Any, tokenizer: Any, folder: Path) -> list[plain.Row]:
    """Reference log-probs, and the loss and gradient norm of a step whose margins are not 0; the rows' sequences."""
    given, right = copy.deepcopy(model), plain.in_float32(model)
    autocast = cell.precision == "bfloat16 autocast"
    precision = "bfloat16" if autocast else "float32"
    trainer = PreferenceTrainer(
        model,
        arguments(folder, rows=len(PAIRS), precision=precision),
        rows_of(cell),
        processing_class=tokenizer,
        beta=plain.BETA,
    )
    rows = trainer.train_dataset
    sequences = [(row[f"{side}_ids"], row[f"{side}_start"]) for side in ("chosen", "rejected") for row in rows]
    reference = sides(rows)
    for number, row in enumerate(rows):
        row["chosen_logp"] += 0.5 - number
        row["rejected_logp"] -= 0.7
    moved = sides(rows)
    exact = plain.values(right, sequences, moved, WEIGHTS)
    tolerance = Tolerance(EXACT, 1e-4, 1e-3)
    if autocast or (cell.precision != "float32" and cell.adapter != "none"):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            rough = plain.values(given, sequences, moved, WEIGHTS)
        tolerance = rounding(exact, rough)
    off = (reference - exact.logps).abs().max().item()
    assert off <= tolerance.logps, f"reference log-probs differ by {off}, tolerance {tolerance}"
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(exact.loss, abs=tolerance.loss)
    assert log["grad_norm"] == pytest.approx(exact.norm, rel=tolerance.norm)
    if hasattr(right, "merge_and_unload") and not right._is_stateful:  # Jamba reads weights past their adapters
        assert plain.logps(plain.merged(right), sequences).numpy() == pytest.approx(exact.logps.numpy(), abs=EXACT)
    return sequences


def sides(rows: list[dict[str, Any]]) -> Tensor:
    return torch.tensor([row[f"{side}_logp"] for side in ("chosen", "rejected") for row in rows])


def rounding(exact: plain.Values, rough: plain.Values) -> Tolerance:
    """ROUNDED times what plain transformers is off at this precision, and the least that bfloat16 lets one expect."""
    return Tolerance(
        ROUNDED * (rough.logps - exact.logps).abs().max().item() + 0.1,
        ROUNDED * abs(rough.loss - exact.loss) + 0.01,
        ROUNDED * abs(rough.norm / exact.norm - 1) + 0.05,
    )


def compare_samples(cell: Cell, model: Any, tokenizer: Any) -> None:
    """Sampled tokens are those that transformers' own generate draws with the same noise, and their text follows the prompt's."""
    prompts = [row["prompt"] for row in rows_of(cell)]
    exact = plain.in_float32(model)  # before the model has read anything
    heads, tokens, rows = sampled(model, tokenizer, prompts)
    for head, new, row, seed in zip(heads, tokens, rows, SEEDS, strict=True):
        if cell.precision == "bfloat16 weights":
            assert plain.short_of_best(exact, head, new, seed) <= slack(model, exact, head, new)
        else:
            assert new == plain.drawn(exact, head, seed, MOST, tokenizer.eos_token_id)
        before, whole = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (head, head + new))
        joined = before + row["response"]
        assert joined == whole or (cell.tokenizer in OURS and f"{before} {row['response']}".split() == whole.split())


def sampled(model: Any, tokenizer: Any, prompts: list[Any]) -> tuple[list[list[int]], list[list[int]], list[Any]]:
    """Prompts' tokens, the tokens drawn after them, EOS included, and the rows of sample_responses, in one batch."""
    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            generation, "sampled", lambda *args, real=generation.sampled: seen.update(args=args) or real(*args)
        )
        rows = generation.sample_responses(
            model,
            tokenizer,
            prompts,
            SEEDS,
            temperature=plain.TEMPERATURE,
            max_new_tokens=MOST,
            batch_size=len(prompts),
        )
    _, _, heads, drawn = seen["args"]
    return heads, [ids + [tokenizer.eos_token_id] * ended for ids, ended in drawn], rows


@torch.no_grad()
def slack(model: Any, exact: Any, head: list[int], new: list[int]) -> float:
    """How far a draw in bfloat16 may be below the best: what the logits of plain transformers are rounded by."""
    difference = plain.logits_while_drawing(model, head, new) - plain.logits_while_drawing(exact, head, new)
    return ROUNDED * difference.abs().max().item() / plain.TEMPERATURE


def compare_rewards(folder: Path, sequences: list[plain.Row], pad_id: int) -> None:
    """Scores of the annotator are those of transformers' own classifier."""
    annotator = new_annotator(folder / "model", None, pad_id=pad_id, head_std=1.0, seed=0)
    annotator.save_pretrained(folder / "annotator")
    right = plain.rewards(folder / "annotator", sequences)
    for budget in (None, 10_000):  # with a mask; lean
        scores = score_responses(annotator, sequences, pad_id, token_budget=budget).tolist()
        assert scores == pytest.approx(right, abs=EXACT)
    half = len(sequences) // 2
    pairs = [
        {"chosen_ids": chosen, "chosen_start": start, "rejected_ids": rejected, "rejected_start": other}
        for (chosen, start), (rejected, other) in zip(sequences[:half], sequences[half:], strict=True)
    ]
    gaps = score_gaps(annotator, pairs, pad_id, half, token_budget=10_000).tolist()  # packed where the model allows it
    assert gaps == pytest.approx([a - b for a, b in zip(right[:half], right[half:], strict=True)], abs=2 * EXACT)
