"""Models whose positions depend on the longest row of a batch: each row is computed as if it were alone."""

import math
from types import SimpleNamespace

import pytest
import torch
from architectures import architecture, right_logp
from tiny import WORDS, arguments, save, tiny_model, tiny_tokenizer
from transformers import AutoModelForSequenceClassification

from cwpo.checks.checkpoints import model_problems
from cwpo.data.batching import SequenceCollator, encode
from cwpo.data.encoding import whole_ids
from cwpo.errors import InputError
from cwpo.models.annotator import classifier_problem, new_annotator, response_scores, score_responses
from cwpo.models.embeddings import mean_states
from cwpo.models.generation import sample_responses, samples_alone
from cwpo.models.lengths import mixes_lengths, mixing_length
from cwpo.models.logprobs import policy_scores
from cwpo.models.policy import add_lora
from cwpo.models.reward_models import HuggingFace
from cwpo.training.sft import SFTTrainer

TEXTS = [" ".join(WORDS[(first + 7 * i) % 12] for i in range(count)) for first, count in enumerate((40, 3, 36))]
BY_LENGTH = ("dynamic", "longrope")


def model_of(name: str):
    tokenizer = tiny_tokenizer()
    return architecture(name, vocab_size=len(tokenizer), num_labels=1), tokenizer


def sequences(tokenizer):
    return encode(tokenizer, TEXTS, ["is good", "bad bread is warm", "cold"])


@pytest.fixture(params=BY_LENGTH)
def folder(request, tmp_path):
    """A classifier of 32 original positions, and its scores of single rows by transformers."""
    model, tokenizer = model_of(request.param)
    save(model, tmp_path / "base", tokenizer)
    annotator = new_annotator(tmp_path / "base", None, pad_id=0, head_std=1.0, seed=0)
    return save(annotator, tmp_path / "annotator", tokenizer)


def alone(folder, rows):
    scores = []
    for ids in rows:
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        scores.append(model(input_ids=torch.tensor([ids])).logits.item())
    return scores


def test_annotators_score_each_row_as_if_it_were_alone(folder):
    rows = sequences(tiny_tokenizer())
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    right = alone(folder, [ids for ids, _ in rows])
    assert score_responses(model, rows, pad_id=0).tolist() == pytest.approx(right, abs=1e-4)
    padded = SequenceCollator(0)([{"ids": ids, "start": start} for ids, start in rows])
    with torch.no_grad():
        together = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"])
    assert together.logits[1].item() != pytest.approx(right[1], abs=0.01)  # what a padded batch gives


@pytest.mark.parametrize("name", [*BY_LENGTH, "llama"])
def test_so_are_mean_states(name):
    model, tokenizer = model_of(name)
    rows = sequences(tokenizer)
    with torch.no_grad():
        right = [
            model_of(name)[0].eval().base_model(torch.tensor([ids])).last_hidden_state[0, start:].mean(0)
            for ids, start in rows
        ]
    torch.testing.assert_close(mean_states(model, rows, 0), torch.stack(right), rtol=1e-4, atol=1e-4)


def test_so_do_reward_models_of_others(folder):
    tokenizer = tiny_tokenizer()
    rows = whole_ids(tokenizer, [f"{text} is good" for text in TEXTS])
    reward = HuggingFace(str(folder), None, batch_size=8, device="cpu")
    scores = reward.rewards(TEXTS, [" is good"] * 3)
    assert scores.tolist() == pytest.approx(alone(folder, rows), abs=1e-4)


@pytest.mark.parametrize("budget", [None, 60])
@pytest.mark.parametrize("name", [*BY_LENGTH, "gemma2", "gpt_neox", "mixtral", "mamba"])
def test_likelihoods_and_the_sft_loss_are_those_of_single_rows(name, budget, tmp_path):
    model, tokenizer = model_of(name)
    rows = sequences(tokenizer)
    right = [right_logp(model, *row) for row in rows]
    assert policy_scores(model, rows, 0).tolist() == pytest.approx(right, abs=1e-3)
    trainer = SFTTrainer(
        model=model,
        args=arguments(tmp_path, rows=3),
        train_dataset=[{"ids": ids, "start": start} for ids, start in rows],
        data_collator=SequenceCollator(0),
        token_budget=budget,
    )
    trainer.train()
    tokens = sum(len(ids) - start for ids, start in rows)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(-math.fsum(right) / tokens, abs=1e-3)


@pytest.mark.parametrize("name", [*BY_LENGTH, "lfm2", "mamba"])
def test_samples_do_not_depend_on_the_rest_of_the_batch(name):
    model, tokenizer = model_of(name)
    settings = {"temperature": 0.7, "max_new_tokens": 9, "batch_size": 3}
    together = sample_responses(model, tokenizer, TEXTS, [1, 2, 3], **settings)
    single = [
        sample_responses(architecture(name, vocab_size=len(tokenizer)), tokenizer, [text], [seed], **settings)[0]
        for seed, text in enumerate(TEXTS, start=1)
    ]
    assert together == single


def test_other_models_are_computed_in_batches():
    dynamic, llama, mamba = (architecture(name) for name in ("dynamic", "llama", "mamba"))
    assert mixing_length(dynamic.config) == mixing_length(architecture("longrope").config) == 32
    assert mixes_lengths(dynamic.config, 32) and not mixes_lengths(dynamic.config, 31)
    assert mixing_length(llama.config) is None and mixing_length(architecture("yarn").config) is None
    assert samples_alone(dynamic, 40) and samples_alone(mamba, 4)
    assert not samples_alone(dynamic, 20) and not samples_alone(llama, 200)


def test_several_processes_cannot_compute_one_length_at_a_time():
    model, _ = model_of("dynamic")
    ids = torch.full((2, 40), 5)
    with pytest.raises(InputError, match="LlamaForCausalLM must compute these rows one length at a time"):
        response_scores(SimpleNamespace(module=model), ids, torch.ones_like(ids))


def test_models_that_cannot_have_a_head_or_adapters_are_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    folder = save(architecture("mamba", vocab_size=len(tokenizer)), tmp_path / "mamba", tokenizer)
    problem = "model=.* is a model of type mamba, for which transformers has no sequence classifier"
    (refused,) = model_problems({"model": (str(folder), None)}, heads=("model",), ask_hub=True)
    assert refused.text == classifier_problem(folder, None, "model")
    with pytest.raises(InputError, match=problem):
        new_annotator(folder, None, pad_id=0, head_std=1.0, seed=0)
    with pytest.raises(InputError, match="PEFT cannot put adapters on a model of type mamba"):
        add_lora(architecture("mamba"), r=2, alpha=4, dropout=0.0)
    assert classifier_problem(save(tiny_model("llama"), tmp_path / "llama"), None, "model") is None
