"""PreferenceTrainer in somebody's own script: options of transformers.Trainer work, or a message says that they do not."""

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from tiny import arguments, tiny_model, tiny_tokenizer
from training.test_preference import pairs

from cwpo.errors import InputError
from cwpo.models.packed import score_pairs
from cwpo.training import PreferenceTrainer
from cwpo.training.sharing import shared_loader


def trainer(tmp_path, rows=None, model=None, args=None, **options) -> PreferenceTrainer:
    return PreferenceTrainer(
        tiny_model("llama") if model is None else model,
        args or arguments(tmp_path, rows=8, batch_size=4),
        pairs() if rows is None else rows,
        processing_class=tiny_tokenizer(),
        **options,
    )


@pytest.mark.parametrize(
    "name", ["compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics", "data_collator"]
)
def test_an_option_without_effect_is_an_error(tmp_path, name):
    with pytest.raises(InputError, match=f"^{name}: PreferenceTrainer does not take this; leave it out. "):
        trainer(tmp_path, **{name: lambda *_: None})


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("label_smoothing_factor", 0.1, "objective=, beta= and flip_rate= choose the loss"),
        ("dataloader_drop_last", True, "the mean over the pairs that it has"),
        ("neftune_noise_alpha", 5.0, "the policy gets no noise"),
        ("loss_type", ["sigmoid"], "hand in transformers.TrainingArguments"),  # of TRL's DPOConfig, as its beta
    ],
)
def test_an_argument_without_effect_is_an_error(tmp_path, name, value, fix):
    args = arguments(tmp_path, rows=8)
    setattr(args, name, value)
    with pytest.raises(InputError, match=f"^{name}: PreferenceTrainer does not take this; leave it out. .*{fix}"):
        trainer(tmp_path, args=args)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_rows_that_the_trainer_has_not_read_cannot_be_evaluated(tmp_path, method):
    made = trainer(tmp_path, eval_dataset={"held_out": pairs(11)[8:]})
    with pytest.raises(InputError, match="eval_dataset={name: rows"):
        getattr(made, method)(pairs(11)[8:])
    right = made.evaluate()["eval_held_out_loss"]
    assert made.evaluate(made.eval_dataset["held_out"])["eval_loss"] == right
    assert made.predict(made.eval_dataset["held_out"]).metrics["test_loss"] == right


@pytest.mark.parametrize("wrap", [pd.DataFrame, lambda rows: DatasetDict(train=Dataset.from_list(rows)), str])
def test_a_table_a_dict_of_splits_or_a_path_is_named(tmp_path, wrap):
    with pytest.raises(InputError, match="where a row, a dict with prompt, chosen, rejected, is expected"):
        trainer(tmp_path, wrap(pairs()))


@pytest.mark.parametrize("model", ["folder/of/model", None])
def test_a_model_that_is_not_loaded_is_named(tmp_path, model):
    with pytest.raises(InputError, match="^model is .*hand in a loaded model"):
        PreferenceTrainer(model, arguments(tmp_path, rows=8), pairs(), processing_class=tiny_tokenizer())


def test_the_reference_is_computed_on_the_device_to_which_the_trainer_moves_the_model(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("transformers.Trainer._move_model_to_device", lambda *_: done.append("moved"))
    monkeypatch.setattr(
        "cwpo.training.preference.score_pairs", lambda *given: done.append("scored") or score_pairs(*given)
    )
    trainer(tmp_path, eval_dataset=pairs(3))
    assert done == ["moved", "scored", "scored"]


def test_logs_are_printed_as_by_any_trainer_without_a_progress_bar(tmp_path, capsys):
    trainer(tmp_path).train()
    assert "rewards/margins" in capsys.readouterr().out


def test_a_frozen_model_is_evaluated_but_not_trained(tmp_path):
    made = trainer(tmp_path, model=tiny_model("llama").requires_grad_(False), eval_dataset=pairs(3))
    assert made.evaluate()["eval_rewards/margins"] == pytest.approx(0, abs=1e-5)
    with pytest.raises(InputError, match="no trainable weights: .*is_trainable=True"):
        made.train()


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_rows_may_be_grouped_by_length(tmp_path, strategy):
    args = arguments(tmp_path, rows=11, batch_size=3)
    args.train_sampling_strategy = strategy
    made = trainer(tmp_path, pairs(11), args=args, eval_dataset=pairs(5))
    batches = [batch["pair_id"] for batch in made.get_train_dataloader()]
    assert sorted(pair for batch in batches for pair in batch) == sorted(f"row {i}" for i in range(11))
    assert made.evaluate()["eval_rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_several_processes_keep_the_order_of_rows_or_say_that_they_cannot(tmp_path):
    args = arguments(tmp_path, rows=8, micro_batch_size=2)
    args.train_sampling_strategy = "sequential"
    rows = [{"number": number} for number in range(8)]
    loader = shared_loader(rows, lambda some: {"numbers": [row["number"] for row in some]}, args)
    assert [batch["numbers"] for batch in loader] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    args.train_sampling_strategy = "group_by_length"
    with pytest.raises(InputError, match="group_by_length works in one process only"):
        shared_loader(rows, dict, args)
