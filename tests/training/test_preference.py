"""The trainers: values by hand, weights that count exactly, batches that may be split in any way."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import FAMILIES, arguments, parameters, save, tiny_model, tiny_tokenizer

from cwpo.data.batching import PairCollator, SequenceCollator, encode, encode_pairs, named
from cwpo.errors import InputError
from cwpo.models.annotator import new_annotator, score_responses
from cwpo.models.logprobs import score_sequences
from cwpo.models.packed import Layout, exact_layout, score_pairs
from cwpo.models.policy import add_lora
from cwpo.objectives import dpo, weighted_mean
from cwpo.training.base import Curve
from cwpo.training.bradley_terry import BradleyTerryTrainer
from cwpo.training.pairs import encoded_rows, enter_reference
from cwpo.training.preference import PreferenceTrainer
from cwpo.training.sft import SFTTrainer

TEXTS = [
    ("tell me about bread", "is good", "is very bad cold"),
    ("ask", "warm bridges is very good", "bad"),
    ("tell me", "bread", "cold bread"),
    ("ask about bridges", "is warm", "very bad"),
    ("bread is", "very warm", "cold"),
    ("bridges is", "good", "bad bad bad"),
    ("ask me", "", "is"),
    ("tell me about bridges", "is very cold", "good"),
    ("me", "warm", "is bad"),
    ("ask me about bread", "very good", "very very bad"),
    ("is bread warm", "bread is warm", "bad"),
]
NAMES = [f"pair{i}" for i in range(len(TEXTS))]
WEIGHTS = [0.9, 0.1, 0.4, 0.05, 0.7, 0.3, 1.0, 0.2, 0.6, 0.8, 0.5]


def pairs(n: int = 8, **columns) -> list[dict]:
    rows = [dict(zip(("prompt", "chosen", "rejected"), text)) | {"weight": w} for text, w in zip(TEXTS, WEIGHTS)][:n]
    for name, values in columns.items():
        for row, value in zip(rows, values):
            row[name] = value
    return rows


def preference(
    tmp_path,
    rows,
    model=None,
    *,
    objective="dpo",
    beta=0.5,
    seed=0,
    average_logps=False,
    column="weight",
    budget=None,
    steps=-1,
    **settings,
):
    """A trainer; `steps` above 0: it reads the rows as a stream, for so many steps."""
    args = arguments(tmp_path, rows=len(rows), seed=seed, **settings)
    args.max_steps = steps
    return PreferenceTrainer(
        model=model if model is not None else tiny_model("llama"),
        args=args,
        train_dataset=Dataset.from_list(rows).to_iterable_dataset() if steps > 0 else rows,
        processing_class=tiny_tokenizer(),
        objective=objective,
        beta=beta,
        average_logps=average_logps,
        weight_column=column,
        token_budget=budget,
    )


def trained(trainer) -> torch.Tensor:
    trainer.train()
    return parameters(trainer.model)


def update(trainer) -> torch.Tensor:
    """How far training moves the parameters."""
    before = parameters(trainer.model)
    return trained(trainer) - before


def losses(trainer) -> torch.Tensor:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    with torch.no_grad():
        return trainer.row_losses(trainer.model, batch)


def close(a: torch.Tensor, b: torch.Tensor, rel: float = 1e-4) -> bool:
    return (a - b).norm() < rel * b.norm()


def reference_logps(model, rows, column: str) -> list[float]:
    encoded = encode(tiny_tokenizer(), [r["prompt"] for r in rows], [r[column] for r in rows])
    return score_sequences(model, encoded, tiny_tokenizer().pad_token_id).tolist()


# Values


@pytest.mark.parametrize("family", FAMILIES)
def test_at_step_0_every_margin_is_0(tmp_path, family):
    trainer = preference(tmp_path, pairs(), tiny_model(family))
    trainer.train()
    first = trainer.state.log_history[0]
    assert [first[f"rewards/{name}"] for name in ("chosen", "rejected", "margins")] == pytest.approx(
        [0, 0, 0], abs=1e-5
    )
    # mean(w) log 2, mean(w) = (0.9 + 0.1 + 0.4 + 0.05 + 0.7 + 0.3 + 1.0 + 0.2) / 8 = 3.65 / 8
    assert first["weights/mean"] == pytest.approx(3.65 / 8)
    assert first["loss"] == pytest.approx(3.65 / 8 * math.log(2), abs=1e-4)


def shifted(n: int = 2) -> list[dict]:
    """Pairs whose reference makes the log-ratios 6 and -3: margin 9. Responses: 3 and 5, then 6 and 2 tokens."""
    rows, model = pairs(n), tiny_model("llama")
    for column, shift in (("chosen", 6.0), ("rejected", -3.0)):
        for row, logp in zip(rows, reference_logps(model, rows, column)):
            row[f"{column}_logp"] = logp - shift
    return rows


@pytest.mark.parametrize(
    ("objective", "average", "expected"),
    [
        # beta 0.5, margin 9: -log sigmoid(4.5)
        ("dpo", False, [math.log(1 + math.exp(-4.5))] * 2),
        # (9 - 1)^2; over tokens 6/3 + 3/5 = 2.6 and 6/6 + 3/2 = 2.5, less 1, squared
        ("ipo", False, [64.0, 64.0]),
        ("ipo", True, [1.6**2, 1.5**2]),
        # flip rate 0.1: [0.9 log(1 + e^-4.5) - 0.1 log(1 + e^4.5)] / 0.8
        ("rdpo", False, [(0.9 * math.log(1 + math.exp(-4.5)) - 0.1 * math.log(1 + math.exp(4.5))) / 0.8] * 2),
    ],
)
def test_losses_by_hand_are_multiplied_by_the_weights(tmp_path, objective, average, expected):
    trainer = preference(tmp_path, shifted(), objective=objective, average_logps=average)
    assert losses(trainer).tolist() == pytest.approx([0.9 * expected[0], 0.1 * expected[1]], rel=1e-4, abs=1e-6)


def test_the_logs_are_the_fields_known_from_other_trainers(tmp_path):
    trainer = preference(tmp_path, shifted())
    trainer.train()
    first = trainer.state.log_history[0]
    chosen = reference_logps(tiny_model("llama"), pairs(2), "chosen")
    # beta 0.5 times the log-ratios 6 and -3
    assert first["rewards/chosen"] == pytest.approx(3.0, abs=1e-4)
    assert first["rewards/rejected"] == pytest.approx(-1.5, abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(4.5, abs=1e-4)
    assert first["rewards/accuracies"] == 1.0
    assert first["logps/chosen"] == pytest.approx(np.mean(chosen), rel=1e-4)
    assert first["weights/mean"] == pytest.approx(0.5)
    assert "logps/rejected" in first


def test_one_step_follows_the_gradient_of_the_weighted_mean(tmp_path):
    model = tiny_model("llama")
    rows = encoded_rows(tiny_tokenizer(), model.config, pairs())
    enter_reference(rows, *(side.tolist() for side in score_pairs(model, rows, 0)))
    batch = PairCollator(0, ("weight", "chosen_logp", "rejected_logp"))(rows)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    tokens = torch.log_softmax(logits, -1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    chosen, rejected = ((labels != -100) * tokens).sum(1).chunk(2)
    margin = (chosen - batch["chosen_logp"]) - (rejected - batch["rejected_logp"])
    weighted_mean(dpo(margin, 0.5), torch.tensor(WEIGHTS[:8])).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert close(update(preference(tmp_path, pairs(), learning_rate=0.01)), -0.01 * gradient)


# Weights


def test_half_the_weights_are_half_the_step(tmp_path):
    # so the loss is not divided by the sum of the weights
    half = update(preference(tmp_path, pairs(weight=[w / 2 for w in WEIGHTS]), learning_rate=0.01))
    assert close(2 * half, update(preference(tmp_path, pairs(), learning_rate=0.01)))


def test_a_pair_of_weight_0_has_no_say(tmp_path):
    weights = [0.5, 0.0, 0.25]
    rows, others = pairs(3, weight=weights), pairs(3, weight=weights)
    others[1] |= {"prompt": "bridges", "chosen": "cold cold", "rejected": "warm is good bread"}
    settings = {"epochs": 3, "learning_rate": 0.01}
    one, other = (update(preference(tmp_path, r, **settings)) for r in (rows, others))
    assert close(one, other)
    others[1]["weight"] = 0.5
    assert not close(one, update(preference(tmp_path, others, **settings)), rel=1e-2)


# Splitting the batch


@pytest.mark.parametrize("optimizer", ["sgd", "adamw_torch"])
@pytest.mark.parametrize("micro", [1, 2])
def test_preference_updates_do_not_depend_on_the_micro_batch(tmp_path, optimizer, micro):
    # 11 pairs in batches of 8: the second step of each epoch has 3
    settings = {"batch_size": 8, "epochs": 2, "learning_rate": 0.01, "optimizer": optimizer}
    whole = update(preference(tmp_path, pairs(11), **settings))
    split = update(preference(tmp_path, pairs(11), micro_batch_size=micro, **settings))
    assert close(split, whole, rel=1e-5 if optimizer == "sgd" else 1e-3)


@pytest.mark.parametrize("budget", [1, 20, 45, 10_000])  # each pair on its own ... all in one part
@pytest.mark.parametrize("family", FAMILIES)
def test_preference_updates_do_not_depend_on_the_token_budget(tmp_path, family, budget):
    settings = {"batch_size": 8, "epochs": 2, "learning_rate": 0.01}
    whole = update(preference(tmp_path, pairs(11), tiny_model(family), **settings))
    trainer = preference(tmp_path, pairs(11), tiny_model(family), budget=budget, **settings)
    parts = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])["micro"]
    assert len(parts) == {1: 8, 10_000: 1}.get(budget, len(parts))
    assert close(update(trainer), whole, rel=1e-4)


def test_parts_of_the_token_budget_may_also_accumulate(tmp_path):
    settings = {"batch_size": 8, "epochs": 2, "learning_rate": 0.01}
    whole = update(preference(tmp_path, pairs(11), **settings))
    split = update(preference(tmp_path, pairs(11), budget=20, micro_batch_size=4, **settings))
    assert close(split, whole, rel=1e-4)


@pytest.mark.parametrize("split", [{"micro_batch_size": 1}, {"budget": 1}])
def test_the_logged_loss_does_not_depend_on_the_micro_batch(tmp_path, split):
    whole, split = preference(tmp_path, shifted()), preference(tmp_path, shifted(), **split)
    for trainer in (whole, split):
        trainer.train()
    for name in ("loss", "rewards/margins", "logps/rejected", "weights/mean"):
        assert split.state.log_history[0][name] == pytest.approx(whole.state.log_history[0][name], abs=1e-4), name


# Inputs


@pytest.mark.parametrize("column", ["weight", "prompt", "chosen", "rejected"])
def test_a_row_without_one_of_the_columns_is_an_error(tmp_path, column):
    rows = pairs()
    del rows[5][column]
    with pytest.raises(InputError, match=f"lacks the column {column}; it has .*never assumed"):
        preference(tmp_path, rows)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -0.01, None, "0.5", np.float32("nan")])
def test_a_weight_that_is_no_finite_number_above_0_is_an_error(tmp_path, weight):
    with pytest.raises(InputError, match="column weight: 1 of 8 values are not finite numbers, at least 0; row 1"):
        preference(tmp_path, pairs(weight=[0.5, weight]))


@pytest.mark.parametrize("logp", [math.nan, -math.inf, None])
def test_a_reference_log_prob_that_is_no_finite_number_is_an_error(tmp_path, logp):
    with pytest.raises(InputError, match="column chosen_logp"):
        preference(tmp_path, pairs(2, chosen_logp=[-1.0, logp], rejected_logp=[-1.0, -1.0]))


@pytest.mark.parametrize("given", [{"chosen_logp": [-1.0, -1.0]}, {"chosen_logp": [-1.0], "rejected_logp": [-1.0]}])
def test_reference_log_probs_of_a_part_are_an_error(tmp_path, given):
    """They would be left out of account in favour of those of the model as handed in."""
    rows = pairs(2, **given)[::-1]
    with pytest.raises(InputError, match=r"column \w+_logp: . of 2 values are not finite numbers; row 0 has None"):
        preference(tmp_path, rows)


def test_no_pairs_are_an_error(tmp_path):
    with pytest.raises(InputError, match="no pairs"):
        PreferenceTrainer(tiny_model(), arguments(tmp_path, rows=1), [], processing_class=tiny_tokenizer())


@pytest.mark.parametrize(
    ("objective", "beta", "message"), [("dpo", 0.0, "beta is 0.0"), ("simpo", 0.5, "one of dpo, ipo, rdpo")]
)
def test_a_wrong_objective_is_an_error_before_anything_runs(tmp_path, objective, beta, message):
    with pytest.raises(ValueError, match=message):
        preference(tmp_path, pairs(), objective=objective, beta=beta)


def test_given_reference_log_probs_equal_the_computed_ones(tmp_path):
    given = pairs()
    encoded = encode_pairs(tiny_tokenizer(), *([r[c] for r in given] for c in ("prompt", "chosen", "rejected")))
    scores = score_pairs(tiny_model("llama"), encoded, tiny_tokenizer().pad_token_id)
    for column, logps in zip(("chosen", "rejected"), scores, strict=True):
        for row, logp in zip(given, logps.tolist(), strict=True):
            row[f"{column}_logp"] = logp
    settings = {"epochs": 3, "batch_size": 4}
    assert torch.equal(
        trained(preference(tmp_path, given, **settings)), trained(preference(tmp_path, pairs(), **settings))
    )


def test_without_bos_an_empty_prompt_is_not_packed(tmp_path):
    # the first response token then follows nothing, least of all the pair before it
    rows = pairs(4)
    rows[3]["prompt"] = ""
    model = tiny_model("llama")
    encoded = encoded_rows(tiny_tokenizer("$A"), model.config, rows)
    assert not exact_layout(model, encoded, pad_id=0).packed


def test_a_model_that_cannot_share_prompts_is_told_once_and_trains_the_same(tmp_path, monkeypatch):
    expected = losses(preference(tmp_path, pairs(4)))
    monkeypatch.setattr("cwpo.training.preference.exact_layout", lambda *_: Layout())
    with pytest.warns(
        UserWarning, match="LlamaForCausalLM cannot compute these pairs with their prompts shared"
    ) as told:
        trainer = preference(tmp_path, pairs(4))
    assert len(told) == 1 and not trainer.data_collator.packed
    assert close(losses(trainer), expected, rel=1e-5)


# Runs


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    settings = {"epochs": 2, "batch_size": 4, "optimizer": "adamw_torch", "learning_rate": 0.01}
    one, again, other = (trained(preference(tmp_path, pairs(), seed=seed, **settings)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_training_prefers_the_chosen_responses(tmp_path):
    trainer = preference(tmp_path, pairs(), epochs=20, optimizer="adamw_torch", learning_rate=0.01)
    trainer.train()
    last = [entry for entry in trainer.state.log_history if "rewards/margins" in entry][-1]
    assert last["rewards/margins"] > 0.5
    assert last["rewards/accuracies"] == 1.0


def test_the_curve_and_the_progress_are_handed_on(tmp_path):
    curve, done = [], []
    trainer = preference(tmp_path, pairs(), epochs=3)
    trainer.add_callback(
        Curve(lambda values, step: curve.append((step, values["rewards/margins"])), lambda *d: done.append(d))
    )
    trainer.train()
    assert [step for step, _ in curve] == [1, 2, 3]
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_lora_trains_its_adapters_only(tmp_path):
    model = add_lora(tiny_model("llama"), r=2, alpha=4, dropout=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = preference(tmp_path, pairs(), model, epochs=3)
    trainer.train()
    assert trainer.state.log_history[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert trainer.state.log_history[2]["rewards/margins"] > 1e-4
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora_" in name for name in moved)


# SFT


def sft(tmp_path, n: int = 8, model=None, budget: int | None = None, **settings) -> SFTTrainer:
    encoded = encode(tiny_tokenizer(), [t[0] for t in TEXTS[:n]], [t[1] for t in TEXTS[:n]])
    return SFTTrainer(
        model=model if model is not None else tiny_model("llama"),
        args=arguments(tmp_path, rows=n, **({"learning_rate": 0.01} | settings)),
        train_dataset=named([{"ids": ids, "start": start} for ids, start in encoded], NAMES[:n]),
        data_collator=SequenceCollator(tiny_tokenizer().pad_token_id),
        token_budget=budget,
    )


@pytest.mark.parametrize("budget", [None, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_sft_loss_is_the_mean_over_response_tokens(tmp_path, family, budget):
    trainer, model = sft(tmp_path, model=tiny_model(family), budget=budget), tiny_model(family)
    rows = [trainer.train_dataset[i] for i in range(8)]
    batch = SequenceCollator(0)(rows)
    assert budget is None or all("packed_ids" in part for part in trainer.data_collator(rows)["micro"])
    loss = model(**batch).loss  # transformers' own mean over tokens whose label is not -100
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert close(update(trainer), -0.01 * gradient)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize("micro", [1, 2])
def test_sft_updates_do_not_depend_on_the_micro_batch(tmp_path, micro):
    # responses of 1 to 6 tokens: a mean of micro-batch means would differ
    whole, split = (
        sft(tmp_path, 11, batch_size=8, epochs=2),
        sft(tmp_path, 11, batch_size=8, epochs=2, micro_batch_size=micro),
    )
    assert close(update(split), update(whole), rel=1e-5)
    assert split.state.log_history[0]["loss"] == pytest.approx(whole.state.log_history[0]["loss"], abs=1e-4)


# The annotator


def bradley_terry(tmp_path, texts, model=None, budget: int | None = None, **settings) -> BradleyTerryTrainer:
    folder = save(tiny_model("opt", spread=3.0), tmp_path / "backbone")
    rows = encode_pairs(tiny_tokenizer(), *(list(column) for column in zip(*texts)))
    return BradleyTerryTrainer(
        model=model or new_annotator(folder, None, pad_id=0, head_std=0.01, seed=0),
        args=arguments(tmp_path, rows=len(rows), **settings),
        train_dataset=named(rows, [f"pair{i}" for i in range(len(rows))]),
        data_collator=PairCollator(0),
        token_budget=budget,
    )


def test_the_first_bradley_terry_loss_is_log_2(tmp_path):
    trainer = bradley_terry(tmp_path, TEXTS[:8])
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=0.02)


def test_the_annotator_learns_which_word_is_better(tmp_path):
    prompts = ["ask", "tell me", "about bread", "about bridges"]
    texts = [(p, f"{a} good {b}", f"{a} bad {b}") for p in prompts for a in ("is", "very") for b in ("warm", "cold")]
    trainer = bradley_terry(tmp_path, texts, epochs=10, optimizer="adamw_torch", learning_rate=0.01, batch_size=8)
    trainer.train()
    unseen = encode_pairs(tiny_tokenizer(), ["me is", "bread"], ["good is", "good"], ["bad is", "bad"])
    good, bad = (
        score_responses(trainer.model, [(r[f"{side}_ids"], r[f"{side}_start"]) for r in unseen], 0)
        for side in ("chosen", "rejected")
    )
    assert (good - bad > 1).all()


def test_bradley_terry_updates_do_not_depend_on_the_micro_batch(tmp_path):
    settings = {"batch_size": 8, "epochs": 2}
    whole = update(bradley_terry(tmp_path, TEXTS, **settings))
    assert close(update(bradley_terry(tmp_path, TEXTS, micro_batch_size=1, **settings)), whole, rel=1e-5)


# Several processes


def test_the_processes_share_the_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes"):
        arguments(tmp_path, rows=8, micro_batch_size=8)


def test_a_batch_that_micro_batches_cannot_fill_is_an_error(tmp_path):
    with pytest.raises(InputError, match="batch_size=8"):
        arguments(tmp_path, rows=8, micro_batch_size=3)
