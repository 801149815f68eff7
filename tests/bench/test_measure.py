"""The benchmark: what it trains, that its sides agree, and how its rows become a table. No test looks at a time."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from omegaconf import OmegaConf
from own.test_annotate import composed

from cwpo.bench import annotation, calibration, measure, report, sides
from cwpo.bench.workloads import WORKLOADS, model_config, random_pairs, words_tokenizer
from cwpo.commands.checks import check_command
from cwpo.errors import InputError
from cwpo.models.policy import load_tokenizer
from cwpo.planning.calibration import calibration_of

# One tiny workload and nothing else to measure.
TINY = (
    "workloads=[tiny_lora] sides=[cwpo] pairs.tiny_lora=4 batch_size=2 token_budget=256 trl_micro=[1] repeats=1 "
    "prompts=3 new_tokens=4 annotation=[] threads=1 device=cpu"
)


def cfg(**changes):
    return OmegaConf.merge(composed("benchmark", *TINY.split()), changes)


def test_random_pairs_have_the_lengths_of_the_workload_and_fit():
    workload = WORKLOADS["hh"]
    tokenizer = words_tokenizer(workload.shape["vocab_size"])
    pairs = random_pairs(workload, 400)
    prompts = [len(ids) for ids in tokenizer([p["prompt"] for p in pairs])["input_ids"]]
    responses = [len(ids) for ids in tokenizer([p["chosen"] for p in pairs])["input_ids"]]
    assert 60 < pd.Series(prompts).median() < 95  # exp(4.33) = 76
    assert 27 < pd.Series(responses).median() < 41  # exp(3.5) = 33
    assert max(p + r for p, r in zip(prompts, responses, strict=True)) + 2 <= workload.longest
    assert random_pairs(workload, 400) == pairs


@pytest.mark.parametrize("name", ["hh", "lora_1_3b"])
def test_shapes_are_those_of_the_published_models(name):
    """125,239,296 and 1,315,758,080 parameters, embeddings shared with the head."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config(WORKLOADS[name].shape))
    assert model.num_parameters() == {"hh": 125_239_296, "lora_1_3b": 1_315_758_080}[name]


@pytest.mark.soak
def test_tiny_lora_trains_the_way_of_the_gpu_workload():
    table = measure.compare("tiny_lora", cfg(), lambda text: None)
    assert len(table) == 1 and table["side"].item() == "cwpo"
    row = table.iloc[0]
    assert row["pairs"] == 4 and row["batch_size"] == 2 and row["useful_tokens"] > 4 * 3
    assert row["tokens_per_second"] == pytest.approx(row["useful_tokens"] / row["seconds"])
    assert len(row["steps"].split()) == 2 and 0 < row["step_seconds"] < row["seconds"]
    assert 0 < row["share_of_matmul_peak"] < 1
    assert row["loss"] == pytest.approx(0.6931, abs=0.05)  # the margins start at 0: ln 2
    assert WORKLOADS["tiny_lora"].lora and WORKLOADS["lora_1_3b"].lora


def test_operations_of_a_training_step_by_hand():
    """Body 2 layers x (4 x 64^2 + 2 x 64 x 256) = 98,304 weights, head 64 x 352 = 22,528; 6 per weight and token."""
    tiny = WORKLOADS["toy"]
    assert measure._operations(tiny, useful=100, responses=10) == 6 * (98_304 * 100 + 22_528 * 10)
    lora = WORKLOADS["tiny_lora"]
    assert measure._operations(lora, useful=100, responses=10) == 4 * (98_304 * 100 + 22_528 * 10)


def test_useful_tokens_count_prompt_once(tmp_path):
    workload = WORKLOADS["toy"]
    job, tokens = measure.set_up(workload, cfg(), tmp_path, 3)
    pairs = json.loads(Path(job["pairs"]).read_text())
    tokenizer = load_tokenizer(job["tokenizer"])
    count = sum(len(tokenizer(p[name])["input_ids"]) for p in pairs for name in ("prompt", "chosen", "rejected"))
    assert tokens["useful"] == count + 2 * len(pairs)  # and the EOS of each response


@pytest.mark.bench
def test_sides_agree_on_the_losses(tmp_path):
    pytest.importorskip("trl")
    workload = WORKLOADS["toy"]
    job, _ = measure.set_up(workload, cfg(), tmp_path, 4)
    assert sides.losses_agree(job, json.loads(Path(job["pairs"]).read_text())) < measure.AGREE


def test_cwpo_side_is_preference_trainer_with_weight_one(tmp_path):
    job, _ = measure.set_up(WORKLOADS["toy"], cfg(), tmp_path, 4)
    pairs = json.loads(Path(job["pairs"]).read_text())
    job |= {"batch_size": 4, "side": "cwpo"}
    trainer = sides.cwpo_trainer(job, sides.model_of(job, "cpu"), pairs)
    assert (trainer.objective, trainer.beta) == ("dpo", sides.BETA)
    assert [row["weight"] for row in trainer.train_dataset.rows] == [1.0] * 4


def test_the_steady_state_leaves_the_first_steps_out():
    assert sides.steady([9.0, 5.0, 3.0, 2.0, 1.0, 3.0]) == 2.0
    assert sides.steady([9.0, 5.0]) == 7.0


def runs(**sides_seconds):
    return pd.DataFrame(
        [
            {
                "workload": "hh",
                "side": side,
                "repeat": i,
                "micro": None,
                "seconds": seconds,
                "preparation_seconds": 1.0,
                "peak_memory_mb": memory,
                "loss": 0.69,
                "pairs": 32,
                "batch_size": 16,
                "useful_tokens": 600,
                "tokens_per_second": 600 / seconds,
                "share_of_matmul_peak": 0.5,
                "device": "a processor, 2 threads",
                "torch": "2",
                "transformers": "5",
                "git_commit": "abc",
            }
            for side, (times, memory) in sides_seconds.items()
            for i, seconds in enumerate(times)
        ]
    )


def test_summary_is_medians_and_ratios_to_cwpo():
    table = report.summary(runs(cwpo=([2.0, 3.0, 9.0], 100), trl_best=([9.0, 6.0, 12.0], 250))).set_index("side")
    assert table.loc["cwpo", "seconds"] == 3.0 and table.loc["trl_best", "seconds"] == 9.0
    assert table.loc["trl_best", "times_slower"] == 3.0 and table.loc["cwpo", "times_slower"] == 1.0
    assert table.loc["trl_best", "memory_share"] == pytest.approx(0.4)
    assert table["runs"].tolist() == [3, 3]


def test_report_of_all_parts(tmp_path):
    runs(cwpo=([2.0], 100), trl_default=([9.0], 250)).to_csv(tmp_path / "training.csv", index=False)
    pd.DataFrame({"pairs": [1000, 100], "seconds": [10.0, 1.0], "peak_memory_mb": [600.0, 590.0]}).to_csv(
        tmp_path / "annotation.csv", index=False
    )
    report.write_report(tmp_path)
    text = (tmp_path / "benchmark.md").read_text()
    assert "| hh | TRL, defaults | 32 | 16 | 1 | 9.00 | 4.50 |" in text and "commit abc" in text
    assert text.index("| 100 |") < text.index("| 1,000 |")
    assert "steady" not in text  # of files from before steps were measured


def test_runs_outside_a_repository_name_their_machine_too():
    assert "transformers 5, commit unknown." in report._machines(runs(cwpo=([2.0], 100)).assign(git_commit=np.nan))


def test_rows_of_a_workload_measured_again_replace_the_old_ones(tmp_path):
    path = tmp_path / "training.csv"
    report._keep(path, pd.DataFrame({"workload": ["hh", "toy"], "seconds": [1.0, 2.0]}), "workload")
    report._keep(path, pd.DataFrame({"workload": ["toy"], "seconds": [3.0]}), "workload")
    assert pd.read_csv(path).to_dict("list") == {"workload": ["hh", "toy"], "seconds": [1.0, 3.0]}


def test_annotation_table_has_distinct_ids_and_any_size(tmp_path):
    annotation.write_pairs(tmp_path / "pairs.parquet", 2 * annotation.BASE + 7)
    frame = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(frame) == 2 * annotation.BASE + 7 and frame["pair_id"].is_unique


@pytest.mark.soak
def test_annotation_is_measured_in_a_process_of_its_own():
    table = annotation.annotation(cfg(annotation=[64]), lambda text: None)
    assert table["pairs"].tolist() == [64]
    assert (table["seconds"] > 0).all() and (table["peak_memory_mb"] > 50).all()


@pytest.fixture
def here(monkeypatch):
    """Sides are measured in this process."""
    for module in (measure, calibration):
        monkeypatch.setattr(module, "run_side", sides.run)


def test_sampling_and_scoring_and_the_chain_become_tables(here, tmp_path):
    chain = [*SMOKE, "method=human", "until=select"]
    report.benchmark(cfg(inference=["tiny_lora"], chain=chain, workloads=[], results=str(tmp_path)))
    (row,) = pd.read_csv(tmp_path / "benchmark" / "inference.csv").to_dict("records")
    assert row["prompts"] == 3 and row["sampling_count"] <= 12 and row["times_transformers"] > 0
    stages = pd.read_csv(tmp_path / "benchmark" / "chain.csv")
    assert {"prepare", "select"} <= set(stages["stage"]) and (stages["seconds"] > 0).all()
    text = (tmp_path / "benchmark" / "benchmark.md").read_text()
    assert "| tiny_lora | 3 | 4 |" in text and "| prepare |" in text


@pytest.mark.soak
def test_a_calibration_measures_all_three_kinds_of_work(here, tmp_path):
    said: list[str] = []
    calibration.calibrate(tmp_path, said.append, device="cpu", sizes=["tiny_lora"], pairs=8)
    (rate,) = calibration_of(tmp_path).rates
    assert rate.parameters > 1e5 and min(rate.training, rate.scoring, rate.sampling) > 0
    assert "tiny_lora" in said[0]


def test_bad_settings_are_refused_all_at_once(tmp_path):
    words = ["workloads=[nope]", "sides=[them]", "repeats=0", "batch_size=0", f"data={tmp_path}/absent.jsonl"]
    with pytest.raises(InputError) as error:
        check_command(composed("benchmark", *words), "benchmark")
    for part in (
        "workloads.0=nope is unknown",
        "sides.0=them is unknown",
        "repeats=0 must be at least 1",
        "batch_size=0 must be at least 1",
        "is not a file of pairs",
    ):
        assert part in str(error.value)
    (tmp_path / "pairs.jsonl").touch()
    words = ["workloads=[tiny_lora]", "~pairs.tiny_lora", f"data={tmp_path}/pairs.jsonl"]
    with pytest.raises(InputError) as error:
        check_command(composed("benchmark", *words), "benchmark")
    missing, tokenizer = error.value.problems
    assert missing.startswith("pairs.tiny_lora is required") and "needs a tokenizer" in tokenizer


@pytest.mark.parametrize(
    ("size", "micro", "why"),
    [
        (12, [2, 4], "batch_size=12 is not a multiple of TRL's micro-batches of 8 pairs"),
        (16, [3], "batch_size=16 is not a multiple of TRL's micro-batches of 3 pairs"),
        (16, [64], "trl_micro=\\[64\\] has no size up to batch_size=16"),
        (16, [1, 2, 4, 64], None),
        (4, [1, 2], None),
    ],
)
def test_every_side_must_take_equal_batches(size, micro, why):
    problems = [problem.text for problem in measure.problems(cfg(batch_size=size, trl_micro=micro))]
    assert len(problems) == (why is not None) and (why is None or re.search(why, problems[0]))
