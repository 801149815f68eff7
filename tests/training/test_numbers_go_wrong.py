"""Numbers that go wrong stop the work and name the pairs; weights of zero, one score and one class are said to be so."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from own.test_align import rows as weighted_rows
from own.test_align import saved
from own.test_annotate import FAST, composed, write_pairs
from tiny import save, tiny_model, tiny_tokenizer
from training import test_preference as made
from training.test_preference import TEXTS, bradley_terry, pairs, preference, sft

from cwpo.errors import InputError
from cwpo.models.annotator import new_annotator
from cwpo.models.generation import sample_responses
from cwpo.own.align import align
from cwpo.own.annotate import label
from cwpo.own.fit import Annotator
from cwpo.own.weighted import read_weighted
from cwpo.stages.annotate import annotate_stage
from cwpo.stages.base import Work
from cwpo.stages.weight import WEIGHT
from cwpo.training.pairs import encoded_rows

NAMES = made.NAMES[:8]


def break_gradients(model: torch.nn.Module) -> torch.nn.Module:
    """A model whose first gradient is infinite, as after an overflow."""
    next(p for p in model.parameters() if p.requires_grad).register_hook(lambda g: g * math.inf)
    return model


def dpo(tmp_path, model, **settings):
    return preference(tmp_path, pairs(pair_id=NAMES), model, **settings)


TRAINERS = {
    "sft": (lambda folder, model: sft(folder, 8, model), {}),
    "bradley_terry": (lambda folder, model: bradley_terry(folder, TEXTS[:8], model), {"labels": 1}),
    "dpo": (dpo, {}),
    "dpo in parts": (lambda folder, model: dpo(folder, model, budget=40), {}),
    "padded dpo": (lambda folder, model: dpo(folder, model), {"family": "opt"}),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_an_infinite_gradient_names_the_batch_and_changes_nothing(tmp_path, name):
    make, kind = TRAINERS[name]
    model = break_gradients(tiny_model(**{"family": "llama"} | kind))
    trainer = make(tmp_path, model)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError) as stopped:
        trainer.train()
    said = str(stopped.value)
    assert said.startswith(("the gradient became inf at step 0; pairs", "the gradient became nan at step 0; pairs"))
    assert set(said.rpartition(": ")[2].split(", ")) == set(NAMES)  # all are in one batch
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", TRAINERS)
def test_a_loss_that_is_nan_names_the_batch(tmp_path, name):
    make, kind = TRAINERS[name]
    trainer = make(tmp_path, tiny_model(**{"family": "llama"} | kind))
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(
        FloatingPointError, match=r"the loss became nan at step 0.*pairs of the batch: .*pair"
    ) as stopped:
        trainer.train()
    assert name == "dpo in parts" or all(pair in str(stopped.value) for pair in NAMES)


def test_the_pair_whose_loss_overflows_is_named(tmp_path):
    """IPO's loss at step 0 is (1 / 2 beta)^2 = 25 for beta = 0.1, and 25 times 3e38 is beyond float32."""
    data = pairs(pair_id=NAMES, weight=[1, 1, 3e38, 1, 1, 1, 1, 1])
    with pytest.raises(
        FloatingPointError, match=r"the loss became inf at step 0, in the loss of pair pair2; pairs of the batch: "
    ):
        preference(tmp_path, data, objective="ipo", beta=0.1).train()


def test_pairs_without_an_id_are_named_by_their_row(tmp_path):
    with pytest.raises(FloatingPointError, match="row 7"):
        preference(tmp_path, pairs(), break_gradients(tiny_model("llama"))).train()


@pytest.mark.parametrize("names", [None, ["p0", "p1"]])
def test_logits_that_are_nan_name_the_prompts(names):
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="the logits of 2 of 2 pairs are NaN or infinite: ") as stopped:
        sample_responses(
            model,
            tiny_tokenizer(),
            ["ask me", "tell me"],
            [0, 1],
            temperature=1.0,
            max_new_tokens=3,
            batch_size=2,
            names=names,
        )
    assert str(stopped.value).endswith(": " + ", ".join(names or ["prompt 0", "prompt 1"]))


# --- annotators ---------------------------------------------------------------------------------------------------


def annotator(tmp_path: Path, value: float) -> Path:
    """An annotator whose head is filled with one value: 0 gives every response the score 0, NaN gives NaN."""
    folder = save(tiny_model("llama"), tmp_path / "backbone")
    model = new_annotator(str(folder), None, pad_id=0, head_std=0.1, seed=0, device="cpu")
    with torch.no_grad():
        model.score.weight.fill_(value)
    model.save_pretrained(tmp_path / "train" / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "train" / "model")
    return tmp_path / "train"


def annotate(tmp_path: Path, value: float):
    (tmp_path / "prepare").mkdir()
    (tmp_path / "out").mkdir()
    table = pd.DataFrame(
        {
            "pair_id": ["x", "y"],
            "prompt": ["ask", "tell"],
            "response_a": ["good", "warm"],
            "response_b": ["bad", "cold"],
            "split": "unlabeled",
        }
    )
    table.to_parquet(tmp_path / "prepare" / "pairs.parquet")
    parents = {"prepare": tmp_path / "prepare", "train_annotator": annotator(tmp_path, value)}
    return annotate_stage("bt").run(Work(tmp_path / "out", None, parents, tracker=None))


def test_scores_that_are_nan_name_the_pairs(tmp_path):
    with pytest.raises(FloatingPointError, match="the scores of 2 of 2 pairs are NaN or infinite: x, y"):
        annotate(tmp_path, math.nan)


def test_an_annotator_that_tells_nothing_apart_is_an_error(tmp_path):
    with pytest.raises(InputError, match="gives both responses of all 2 pairs the same score.*train it longer"):
        annotate(tmp_path, 0.0)


def test_own_scores_that_are_nan_name_the_pairs(tmp_path):
    folder = annotator(tmp_path, math.nan)
    from cwpo.models.annotator import load_annotator

    model = Annotator("bt", [load_annotator(folder / "model", pad_id=0, device="cpu")], tiny_tokenizer())
    table = pd.DataFrame({"pair_id": ["x", "y"], "prompt": "ask", "response_a": "good", "response_b": ["bad", "cold"]})
    with pytest.raises(FloatingPointError, match="the annotator's scores of 2 of 2 pairs are NaN or infinite: x, y"):
        model.gaps(table)


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "said"), [([0.0, 0.0], "all 2 weights are 0"), ([math.nan, 1.0], "score gaps are NaN")]
)
def test_the_weight_stage_refuses_weights_that_teach_nothing(tmp_path, margin, said):
    table = pd.DataFrame(
        dict.fromkeys(("pair_id", "prompt", "chosen", "rejected", "label_source"), "x")
        | {"margin": margin, "confidence": 0.0}
    )
    table.to_parquet(tmp_path / "selected.parquet")
    config = SimpleNamespace(weighting=SimpleNamespace(name="c1", scale=1.0, normalize=False, permute=False), seed=0)
    with pytest.raises(ValueError, match=said):
        WEIGHT.run(Work(tmp_path, config, {"select": tmp_path}, tracker=None))


def test_weights_that_are_all_zero_are_refused_by_the_trainer_and_by_align(tmp_path):
    with pytest.raises(InputError, match="all 8 weights are 0, so nothing would be learned"):
        encoded_rows(None, None, pairs(weight=[0] * 8))
    file = saved(tmp_path / "p.jsonl", [row | {"weight": 0.0} for row in weighted_rows(4)])
    with pytest.raises(InputError, match="all 4 weights are 0, so there is nothing to learn"):
        read_weighted(file)


def test_a_learning_rate_that_blows_up_names_rows_of_the_users_table(tmp_path, tiny_checkpoint):
    file = saved(tmp_path / "p.jsonl", [row | {"weight": 3e38} for row in weighted_rows(8)])
    words = [
        f"preferences={file}",
        f"model={tiny_checkpoint}",
        f"out={tmp_path}/out",
        "sft.epochs=0",
        "objective=ipo",
        "beta=0.01",
    ]
    with pytest.raises(InputError, match=r"the loss became inf at step 0.*row \d.*lower alignment.learning_rate"):
        align(composed("align", *words), say=lambda line: None)
    assert not (tmp_path / "out").exists() and list(tmp_path.iterdir()) == [tmp_path / "p.jsonl"]


# --- labels -------------------------------------------------------------------------------------------------------


def test_labels_of_one_side_only_are_said_to_be_so(tmp_path, tiny_checkpoint):
    """Such labels name a side and not a text; a Bradley-Terry annotator cannot see sides, and the report says what can."""
    table = pd.read_json(write_pairs(tmp_path / "t.jsonl", 60, 20), lines=True).to_dict("records")
    one = [row | ({"label": "a"} if isinstance(row["label"], str) else {"label": None}) for row in table]
    file = saved(tmp_path / "one.jsonl", one)
    words = [f"data={file}", f"model={tiny_checkpoint}", f"out={tmp_path}/out", *FAST]
    label(composed("annotate", *words), say=lambda line: None)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["baselines"]["majority"]["mean"] == 1.0 and report["verdict"]["advice"] == "more_labels"
    assert any(
        "always naming the same side is right on 100.0%" in line and line.endswith("worse")
        for line in report["verdict"]["reasons"]
    )
