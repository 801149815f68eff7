"""The weak annotators besides Bradley-Terry: DPO, SFT + DPO and PairRM, what they score and what they learn."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from tiny import BOS, EOS, FAMILIES, PAD, VOCABULARY, WORDS, arguments, parameters, save, tiny_model, tiny_tokenizer

from cwpo.data.batching import PairCollator, encode
from cwpo.errors import InputError
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.models.annotator import load_annotator, new_annotator
from cwpo.models.logprobs import policy_scores, score_sequences
from cwpo.models.pairrm import check_joint_lengths, encode_both_orders, encode_joint, score_both_orders
from cwpo.models.policy import load_policy, load_tokenizer
from cwpo.pipeline.arms import Arm, expand
from cwpo.pipeline.record import record
from cwpo.stages.annotate import annotation_table
from cwpo.store.store import Store
from cwpo.training.bradley_terry import PairRMTrainer

PROMPTS = ["ask me", "tell me about bread", "ask"]
FIRST = ["bread is good", "bad", "bridges is very warm"]
SECOND = ["cold", "very very bad", "is good"]


def ids(text: str) -> list[int]:
    return [VOCABULARY[word] for word in text.split()]


# Scores of a policy


@torch.no_grad()
def log_likelihood(model, prompt: str, response: str) -> float:
    """Sum of log softmax at the response's words and its EOS, one sequence on its own."""
    head, tail = [BOS, *ids(prompt)], [*ids(response), EOS]
    logits = model(input_ids=torch.tensor([head + tail])).logits[0].double()
    positions = range(len(head) - 1, len(head) + len(tail) - 1)
    return sum((logits[p, token] - logits[p].logsumexp(0)).item() for p, token in zip(positions, tail, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihood_and_implicit_scores_by_hand(family):
    model, reference = tiny_model(family, seed=1, spread=3.0), tiny_model(family, seed=2, spread=3.0)
    rows = encode(tiny_tokenizer(), PROMPTS, FIRST)
    own = [log_likelihood(model, p, r) for p, r in zip(PROMPTS, FIRST, strict=True)]
    base = [log_likelihood(reference, p, r) for p, r in zip(PROMPTS, FIRST, strict=True)]
    assert policy_scores(model, rows, PAD).tolist() == pytest.approx(own, rel=1e-4)
    implicit = policy_scores(model, rows, PAD, reference=reference, beta=0.25)
    assert implicit.tolist() == pytest.approx([0.25 * (o - b) for o, b in zip(own, base, strict=True)], abs=1e-4)


def test_the_two_rules_can_label_a_pair_differently():
    # log pi: -3 and -5, so a is likelier. Against the reference's -1 and -6 it lost 2 and b gained 1.
    likelihood = annotation_table(np.array([-3.0]), np.array([-5.0]))
    implicit = annotation_table(0.5 * np.array([-3.0 + 1.0]), 0.5 * np.array([-5.0 + 6.0]))
    assert likelihood["label"].item() == "a" and likelihood["margin"].item() == 2.0
    assert implicit["label"].item() == "b" and implicit["margin"].item() == 1.5
    # 2 (sigmoid(1.5) - 1/2)
    assert implicit["confidence"].item() == pytest.approx(2 / (1 + math.exp(-1.5)) - 1)


# PairRM


def test_a_joint_sequence_is_prompt_first_eos_second_eos():
    (row,) = encode_joint(tiny_tokenizer(), ["ask me"], ["good"], ["very bad"])
    assert row == ([BOS, *ids("ask me good"), EOS, *ids("very bad"), EOS], 3)
    (both,) = encode_both_orders(tiny_tokenizer(), ["ask me"], ["good"], ["very bad"])
    assert both["chosen_ids"] == row[0] and both["chosen_start"] == both["rejected_start"] == 3
    assert both["rejected_ids"] == [BOS, *ids("ask me very bad"), EOS, *ids("good"), EOS]


@torch.no_grad()
def joint_logit(model, prompt: str, first: str, second: str) -> float:
    row = torch.tensor([[BOS, *ids(prompt), *ids(first), EOS, *ids(second), EOS]])
    return (model.score.weight[0] @ model.base_model(input_ids=row).last_hidden_state[0, -1]).item()


def pairrm(tmp_path, chosen, rejected, prompts=PROMPTS, family="opt", **settings) -> PairRMTrainer:
    folder = save(tiny_model(family, spread=3.0), tmp_path / "backbone")
    rows = encode_both_orders(tiny_tokenizer(), prompts, chosen, rejected)
    return PairRMTrainer(
        model=new_annotator(folder, None, pad_id=PAD, head_std=settings.pop("head_std", 0.01), seed=0),
        args=arguments(tmp_path, rows=len(rows), **settings),
        train_dataset=rows,
        data_collator=PairCollator(PAD),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_both_orders_by_hand(tmp_path, family):
    trainer = pairrm(tmp_path, FIRST, SECOND, family=family, head_std=1.0)
    batch = trainer.data_collator(list(trainer.train_dataset))
    with torch.no_grad():
        losses = trainer.row_losses(trainer.model, batch)
    for loss, prompt, better, worse in zip(losses.tolist(), PROMPTS, FIRST, SECOND, strict=True):
        right = joint_logit(trainer.model, prompt, better, worse)
        swapped = joint_logit(trainer.model, prompt, worse, better)
        assert abs(right + swapped) > 1e-3  # an untrained model is not antisymmetric: both orders matter
        expected = (math.log(1 + math.exp(-right)) + math.log(1 + math.exp(swapped))) / 2
        assert loss == pytest.approx(expected, rel=1e-4)
    assert trainer.count_rows(batch) == 3


def test_swapping_the_responses_turns_the_gap_and_the_label(tmp_path):
    model = pairrm(tmp_path, FIRST, SECOND, head_std=1.0).model
    tables = [
        annotation_table(*(s.double().numpy() for s in score_both_orders(model, tiny_tokenizer(), PROMPTS, *pair)))
        for pair in ((FIRST, SECOND), (SECOND, FIRST))
    ]
    gaps = [table["score_a"] - table["score_b"] for table in tables]
    assert gaps[0].tolist() == pytest.approx((-gaps[1]).tolist(), abs=1e-6)
    assert (gaps[0].abs() > 1e-3).all()
    assert (tables[0]["label"] != tables[1]["label"]).all()
    assert tables[0]["confidence"].tolist() == pytest.approx(tables[1]["confidence"].tolist(), abs=1e-6)
    for gap, prompt, a, b in zip(gaps[0], PROMPTS, FIRST, SECOND, strict=True):
        average = (joint_logit(model, prompt, a, b) - joint_logit(model, prompt, b, a)) / 2
        assert gap == pytest.approx(average, rel=1e-4, abs=1e-5)


def test_pairs_beyond_the_context_are_counted():
    rows = encode_joint(tiny_tokenizer(), PROMPTS, FIRST, SECOND)
    # BOS, 2 + 3 + 1 words, 2 EOS; 4 + 1 + 3 words; 1 + 4 + 2
    assert [len(row) for row, _ in rows] == [9, 11, 10]
    check_joint_lengths(rows, 11, "weak")
    check_joint_lengths(rows, None, "weak")
    with pytest.raises(
        InputError, match=r"1 of 3 pairs .* 10 tokens that pair\.weak=weak .*longest: 11.*data\.max_tokens=5"
    ):
        check_joint_lengths(rows, 10, "weak")


# Through the stages


def annotated(store: Path, *overrides: str) -> tuple[Arm, pd.DataFrame]:
    """The arm, run as far as its `until`, and its pairs with their annotations."""
    (made,) = expand([f"store={store}", *overrides])
    run_arms([made], Settings.of(made.cfg))
    pairs = pd.read_parquet(output(made, "prepare") / "pairs.parquet")
    labels = pd.read_parquet(output(made, "annotate") / "annotations.parquet")
    return made, pairs.merge(labels, on="pair_id", validate="one_to_one")


def output(made: Arm, stage: str) -> Path:
    return made.nodes[stage].folder(Store(made.cfg.store))


def write_pairs(file: Path, better: str, worse: str, count: int) -> Path:
    rng = np.random.default_rng(0)
    words = [word for word in WORDS if word not in ("good", "bad")]
    texts = sorted({" ".join(rng.choice(words, 3)) for _ in range(count)})
    parts = [text.rsplit(" ", 1) for text in texts]
    rows = [{"prompt": f"{p} ", "chosen": f"{r} {better}", "rejected": f"{r} {worse}"} for p, r in parts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def own_data(folder: Path, pairs: Path, **settings: int) -> list[str]:
    weak = save(tiny_model("opt", spread=3.0, **settings), folder / "weak")
    own = [f"data.path={pairs}", f"pair.weak={weak}", f"pair.strong={weak}", "data.max_tokens=20"]
    return [*own, "data=jsonl", "gold=trained", "human_fraction=0.5", "until=annotate"]


# Either word wins once for each kind, so a model that learned nothing fails one of the two.
LEARNS = [(kind, None, word) for kind in ("bt", "pairrm") for word in ("good", "bad")]
LEARNS += [("dpo", "likelihood", "good"), ("dpo", "implicit", "bad")]
LEARNS += [("sft_dpo", "likelihood", "bad"), ("sft_dpo", "implicit", "good")]


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "scoring", "better"), LEARNS)
def test_it_learns_which_word_is_better(tmp_path, kind, scoring, better):
    worse = {"good": "bad", "bad": "good"}[better]
    own = own_data(tmp_path, write_pairs(tmp_path / "pairs.jsonl", better, worse, 250))
    rates = [f"annotator.{part}learning_rate=0.01" for part in ("training.", "sft_training.", "dpo_training.")]
    rule = [f"annotator.scoring={scoring}"] if scoring else []
    _, table = annotated(tmp_path / "store", *own, *rates, f"annotator={kind}", *rule)
    unseen = table[table["split"] != "labeled"]
    assert len(unseen) > 80
    assert (unseen["label"] == unseen["human_label"]).mean() > 0.8


def test_a_context_too_short_for_both_responses_is_one_clear_error(tmp_path):
    # One response: BOS + 2 words + 2 words + EOS = 6 tokens, which fits; both: 9
    own = own_data(tmp_path, write_pairs(tmp_path / "pairs.jsonl", "good", "bad", 40), max_position_embeddings=8)
    with pytest.raises(InputError, match=r"and (\d+) of \1 pairs then have more than the 8 tokens .*\(longest: 9\)"):
        annotated(tmp_path / "store", *own, "annotator=pairrm")
    assert not (tmp_path / "store" / "train_annotator").exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


def smoke(store: Path, *overrides: str) -> tuple[Arm, pd.DataFrame]:
    return annotated(store, *SMOKE, "until=assess", *overrides)


@pytest.mark.parametrize("kind", ["dpo", "sft_dpo"])
def test_a_policy_annotator_keeps_its_reference_and_serves_both_rules(store, kind):
    (likely, by_likelihood), (implicit, by_reward) = (
        smoke(store, f"annotator={kind}", f"annotator.scoring={rule}", "annotator.beta=0.2")
        for rule in ("likelihood", "implicit")
    )
    trained = output(likely, "train_annotator")
    assert trained == output(implicit, "train_annotator")
    pretrained = load_policy(output(likely, "pretrain_weak") / "model")
    reference, model = load_policy(trained / "reference"), load_policy(trained / "model")
    assert torch.equal(parameters(reference), parameters(pretrained)) == (kind == "dpo")
    assert not torch.equal(parameters(model), parameters(reference))
    tokenizer = load_tokenizer(trained / "model")
    for side in ("a", "b"):
        rows = encode(tokenizer, by_likelihood["prompt"].tolist(), by_likelihood[f"response_{side}"].tolist())
        own, base = (score_sequences(m, rows, tokenizer.pad_token_id).double() for m in (model, reference))
        assert by_likelihood[f"score_{side}"].tolist() == pytest.approx(own.tolist(), rel=1e-5)
        assert by_reward[f"score_{side}"].tolist() == pytest.approx((0.2 * (own - base)).tolist(), abs=1e-5)


def test_seconds_count_everything_and_curves_go_on(store):
    made, _ = smoke(store, "annotator=sft_dpo")
    summaries = {
        stage: Store(store).manifest(stage, made.nodes[stage].key)["summary"]
        for stage in ("train_annotator", "annotate")
    }
    assert summaries["train_annotator"]["n_train"] == 36  # 0.3 of 120
    assert summaries["train_annotator"]["train_seconds"] > 0 and summaries["annotate"]["seconds"] > 0
    curve = [json.loads(line) for line in (output(made, "train_annotator") / "metrics.jsonl").open()]
    # 36 rows in batches of 32: two steps of SFT, two of DPO
    assert [row["step"] for row in curve] == [1, 2, 3, 4]
    assert ["sft/loss" in row for row in curve] == [True, True, False, False]
    assert curve[2]["rewards/margins"] == pytest.approx(0, abs=1e-5)  # the SFT model is where DPO starts


def test_pairrm_runs_through_the_stages(store):
    made, table = smoke(store, "annotator=pairrm")
    assert not (output(made, "train_annotator") / "reference").exists()
    folder = output(made, "train_annotator") / "model"
    tokenizer = load_tokenizer(folder)
    columns = (table[name].tolist() for name in ("prompt", "response_a", "response_b"))
    scores = score_both_orders(load_annotator(folder, pad_id=tokenizer.pad_token_id), tokenizer, *columns)
    assert (table["score_a"] - table["score_b"]).tolist() == pytest.approx((scores[0] - scores[1]).tolist(), abs=1e-5)
    assert (table["margin"] == (table["score_a"] - table["score_b"]).abs()).all()


def test_the_result_rows_name_the_rule(store, tmp_path):
    rules = ["annotator=bt,dpo", "annotator.scoring=likelihood,implicit"]
    arms = expand([*SMOKE, f"store={store}", "until=assess", *rules])
    assert len(arms) == 3  # bt is the same under both rules
    run_arms(arms, Settings.of(arms[0].cfg))
    record(arms, Store(store), tmp_path, experiment="custom", whole=False)
    rows = pd.read_csv(tmp_path / "toy" / "annotators.csv")
    assert sorted(rows[["annotator", "scoring"]].fillna("").itertuples(index=False, name=None)) == [
        ("bt", ""),
        ("dpo", "implicit"),
        ("dpo", "likelihood"),
    ]
