"""PreferenceTrainer in a user's own script: adapters, streamed data sets, own weight columns, every objective; model cards."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from datasets import Dataset
from tiny import tiny_model, tiny_tokenizer
from training.test_preference import arguments, pairs, parameters, preference, trained
from transformers import TrainingArguments

from cwpo.errors import InputError
from cwpo.models.card import training_metrics, write_card
from cwpo.stages.align import arm_facts, lineage
from cwpo.training.pairs import CHUNK, StreamedRows, is_stream
from cwpo.training.preference import PreferenceTrainer
from cwpo.training.sharing import is_filler, stream_loader


def test_a_shuffled_stream_has_another_order_in_each_pass():
    shuffled = Dataset.from_list([{"n": n} for n in range(8)]).to_iterable_dataset().shuffle(seed=0, buffer_size=8)
    rows = StreamedRows(shuffled, lambda chunk: chunk)
    orders = []
    for epoch in range(3):
        rows.set_epoch(epoch)
        orders.append([row["n"] for row in rows])
    assert all(sorted(order) == list(range(8)) for order in orders) and len(set(map(tuple, orders))) == 3
    StreamedRows([{"n": 0}], lambda chunk: chunk).set_epoch(1)  # any iterable will do


@pytest.mark.parametrize("objective", ["dpo", "ipo", "rdpo"])
def test_a_stream_trains_as_the_whole_data_set_does(objective, tmp_path):
    """One batch of all rows, so that their order does not matter; the weight column has a name of its own."""
    rows = [{("sureness" if k == "weight" else k): v for k, v in row.items()} for row in pairs()]
    whole = trained(preference(tmp_path / "a", rows, objective=objective, column="sureness"))
    trainer = preference(tmp_path / "b", rows, objective=objective, column="sureness", steps=1)
    assert isinstance(trainer.train_dataset, StreamedRows)
    assert torch.allclose(trained(trainer), whole, atol=1e-5)
    assert not torch.allclose(whole, parameters(tiny_model("llama")), atol=1e-4)


def test_the_reference_of_a_stream_is_the_model_before_training(tmp_path):
    """Two passes over one batch: in the second the margin is the first step's doing, not 0."""
    trainer = preference(tmp_path, pairs(), steps=3)
    trainer.train()
    margins = [row["rewards/margins"] for row in trainer.state.log_history if "rewards/margins" in row]
    assert margins[0] == pytest.approx(0, abs=1e-5) and margins[-1] > 0.01


@pytest.mark.parametrize("accumulated", [2, 4])
def test_a_step_ends_where_the_stream_ends(tmp_path, accumulated):
    """5 pairs are 3 micro-batches: 2 and 1 in the two steps of a pass, or 3 in its only one."""
    moved = []
    for name, data in (("stream", Dataset.from_list(pairs(5)).to_iterable_dataset()), ("list", pairs(5))):
        args = arguments(tmp_path / name, rows=2 * accumulated, micro_batch_size=2)
        args.max_steps, args.logging_steps, args.train_sampling_strategy = 4, 1, "sequential"
        trainer = PreferenceTrainer(tiny_model("llama"), args, data, processing_class=tiny_tokenizer())
        moved.append((trained(trainer), [row["loss"] for row in trainer.state.log_history[:4]]))
    assert torch.allclose(moved[0][0], moved[1][0], atol=1e-5) and moved[0][1] == pytest.approx(moved[1][1], rel=1e-4)


@pytest.mark.parametrize(("budget", "way"), [(None, "non_padding"), (64, "non_padding"), (None, "all")])
def test_the_tokens_that_were_trained_on_are_counted(tmp_path, budget, way, caplog, monkeypatch):
    """5 pairs in two steps; the second has a filler batch. A chosen and a rejected response differ in length."""
    args, rows = arguments(tmp_path, rows=4, micro_batch_size=2), pairs(1) * 5
    args.max_steps, args.include_num_input_tokens_seen = 2, way
    data = Dataset.from_list(rows).to_iterable_dataset()
    trainer = PreferenceTrainer(tiny_model("llama"), args, data, processing_class=tiny_tokenizer(), token_budget=budget)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    trainer.train()
    each = next(iter(trainer.train_dataset))
    lengths = [len(each["chosen_ids"]), len(each["rejected_ids"])]
    assert trainer.state.num_input_tokens_seen == 5 * (sum(lengths) if way == "non_padding" else 2 * max(lengths))
    assert "Tried to track" not in caplog.text


def test_a_wrong_row_of_a_stream_is_found_by_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("cwpo.training.pairs.CHUNK", 4)
    rows = pairs()
    rows[6]["chosen"] = None
    trainer = preference(tmp_path, rows, batch_size=4, steps=2)
    with pytest.raises(
        InputError, match=r"^examples 4 to 7 of the stream, counted from row 0: column chosen: .* row 2"
    ):
        trainer.train()


def test_a_stream_without_max_steps_is_read_at_once(tmp_path):
    data = Dataset.from_list(pairs()).to_iterable_dataset()
    args = arguments(tmp_path, rows=8)
    trainer = PreferenceTrainer(tiny_model("llama"), args, data, processing_class=tiny_tokenizer())
    assert len(trainer.train_dataset) == 8


def test_resuming_a_stream_goes_on_as_without_the_break_or_is_refused(tmp_path):
    """9 pairs are 3 steps a pass: step 2 lies in the first pass and can be resumed, step 4 in the second."""

    def streamed(part):
        args = arguments(tmp_path / part, rows=3)
        args.max_steps, args.save_strategy, args.save_steps, args.save_total_limit = 5, "steps", 2, None
        data = Dataset.from_list(pairs(9)).to_iterable_dataset()
        return PreferenceTrainer(tiny_model("llama"), args, data, processing_class=tiny_tokenizer())

    whole = streamed("a")
    whole.train()
    again = streamed("b")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert torch.equal(parameters(again.model), parameters(whole.model))
    with pytest.raises(InputError, match="checkpoint-4 lies in pass 2 over a stream"):
        streamed("c").train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))


def test_what_a_stream_is():
    data = Dataset.from_list(pairs())
    assert is_stream(data.to_iterable_dataset())
    assert not is_stream(data) and not is_stream(pairs()) and not is_stream(iter(pairs()))
    sizes = []
    rows = StreamedRows(range(CHUNK + 1), lambda chunk: sizes.append(len(chunk)) or chunk)
    assert list(rows) == list(rows) == list(range(CHUNK + 1))
    assert sizes == [CHUNK, 1, CHUNK, 1]


def test_a_part_of_a_stream_may_have_no_weight(tmp_path):
    rows = [dict(pairs()[0], weight=float(index < CHUNK)) for index in range(CHUNK + 1)]
    trainer = preference(tmp_path, rows, steps=100)
    assert [row["weight"] for row in trainer.train_dataset] == [1.0] * CHUNK + [0.0]


# --- cards -------------------------------------------------------------------------------------------------------


def test_a_card_says_data_arm_metrics_and_commit(tmp_path):
    history = [
        {"loss": 1.0, "rewards/accuracies": 0.5},
        {"loss": 0.25, "rewards/accuracies": 0.75, "rewards/margins": 1.23456},
        {"train_runtime": 3.0},
    ]
    write_card(tmp_path, "a/model", {"data": "x | y"}, {"pairs": 3} | training_metrics(history))
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\nbase_model: a/model\n")
    for line in ("| trained from | a/model |", "| data | x \\| y |", "| pairs | 3 |", "| commit of the code | "):
        assert line in text
    assert (
        "| loss, last training steps | 0.25 |" in text and "| rewards/margins, last training steps | 1.2346 |" in text
    )
    write_card(tmp_path, str(tmp_path), {}, {})
    assert "base_model" not in (tmp_path / "README.md").read_text()  # a folder is nothing on the hub


def test_lineage_walks_up_the_store(tmp_path):
    def stage(name, key, config, **parents):
        folder = tmp_path / name / key
        folder.mkdir(parents=True)
        manifest = {"stage": name, "config": config, "parents": parents}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    data = {"data": {"name": "harmless", "source": "world"}, "seed": 3, "human_fraction": 0.3}
    stage("prepare", "p", data)
    stage("train_annotator", "t", {"annotator": {"name": "bt"}, "weak": "world/opt-32x1"}, prepare="p")
    stage("annotate", "n", {}, prepare="p", train_annotator="t")
    method = {"labels": "weak", "pairs": "unlabeled", "selection": {"kind": "top_fraction", "value": 0.3}}
    stage("select", "s", {"method": method}, prepare="p", annotate="n")
    weight = stage("weight", "w", {"weighting": {"name": "c1"}}, select="s")
    found = lineage([weight, tmp_path / "no manifest"])
    assert set(found) == {"weight", "select", "annotate", "train_annotator", "prepare"}
    assert arm_facts(found) == {
        "data": "harmless (world), seed 3",
        "labeled share of the training pairs": 0.3,
        "annotator": "bt on world/opt-32x1",
        "labels, pairs": "weak, unlabeled, top_fraction 0.3",
        "weights": "c1",
    }


# Several processes


def shared(rows, process: int = 0, processes: int = 2):
    """The loader of one of `processes` processes, each of which takes 2 rows at a time, 4 of a batch."""
    args = TrainingArguments("unused", per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True)
    args = SimpleNamespace(**vars(args), world_size=processes, process_index=process)
    return stream_loader(StreamedRows(rows, lambda chunk: chunk), lambda own: {"n": [row["n"] for row in own]}, args)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9])
def test_processes_share_each_batch_of_a_stream_and_no_pair_comes_twice(count):
    shares = [
        [[] if is_filler(batch) else batch["n"] for batch in shared([{"n": n} for n in range(count)], process)]
        for process in range(2)
    ]
    assert len(shares[0]) == len(shares[1])  # all processes run the model equally often
    assert sorted(n for share in shares for batch in share for n in batch) == list(range(count))
    whole = count // 8 * 2  # micro-batches of a process in batches of 8 rows
    assert sorted(n for share in shares for batch in share[:whole] for n in batch) == list(range(count // 8 * 8))


def test_a_shared_stream_has_another_order_in_each_pass():
    loader = shared(Dataset.from_list([{"n": n} for n in range(8)]).to_iterable_dataset().shuffle(seed=0), 0, 1)
    orders = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        orders.append([n for batch in loader for n in batch["n"]])
    assert all(sorted(order) == list(range(8)) for order in orders) and len(set(map(tuple, orders))) == 3


def test_a_token_budget_is_refused_under_fsdp(tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(InputError, match="token_budget=64: under FSDP .* would hang; leave token_budget out"):
        preference(tmp_path, pairs(), budget=64)
