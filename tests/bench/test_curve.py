"""The benchmark's loss curve, on a model of 10^5 parameters; the same path trains OPT-1.3B's shape where there is a GPU."""

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from cwpo.bench.report import benchmark
from cwpo.bench.workloads import WORKLOADS, model_config
from cwpo.commands.checks import check_command
from cwpo.config.commands import register
from cwpo.config.schema import CONF
from cwpo.errors import InputError


def composed(*words: str):
    register()
    with initialize_config_dir(str(CONF / "command"), version_base="1.3"):
        return compose("benchmark", overrides=list(words))


SMALL = ["workloads=[]", "scaling=false", "annotation=[]", "threads=1", "device=cpu"]


def test_a_curve_with_its_speed_and_memory(tmp_path):
    pytest.importorskip("peft")
    words = ["curve=[tiny_lora]", "curve_steps=6", "pairs.tiny_lora=8", "batch_size=4", "token_budget=1024"]
    benchmark(composed(*SMALL, *words, f"results={tmp_path}"))
    folder = tmp_path / "benchmark"
    (training,) = pd.read_csv(folder / "curves.csv").to_dict("records")
    steps = pd.read_csv(folder / "curve_steps.csv")
    assert steps["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert steps["loss"].iloc[0] == pytest.approx(0.6931 * steps["weights/mean"].iloc[0], abs=1e-3)
    assert steps["weights/mean"].std() > 0  # weights are not all one
    assert (training["workload"], training["steps"], training["batch_size"]) == ("tiny_lora", 6, 4)
    assert training["lora"] and training["parameters"] > 1e5
    assert training["tokens_per_second"] > 0 and training["peak_memory_mb"] > 0
    text = (folder / "benchmark.md").read_text()
    assert "| tiny_lora | 0." in text and "| float32 | yes | 6 | 4 |" in text
    assert (folder / "curve.png").stat().st_size > 1000


def test_the_large_workload_has_the_shape_of_opt_1_3b():
    config = model_config(WORKLOADS["lora_1_3b"])
    shape = (
        config.hidden_size,
        config.ffn_dim,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.vocab_size,
    )
    assert shape == (2048, 8192, 24, 32, 50272)
    assert WORKLOADS["lora_1_3b"].lora and WORKLOADS["lora_1_3b"].dtype == "bfloat16"


@pytest.mark.gpu
def test_opt_1_3b_shaped_cw_dpo_on_a_gpu(tmp_path):
    benchmark(
        composed(
            *SMALL[:3], "curve=[lora_1_3b]", "curve_steps=10", "token_budget=8192", f"results={tmp_path}"
        )
    )
    (training,) = pd.read_csv(tmp_path / "benchmark" / "curves.csv").to_dict("records")
    assert training["dtype"] == "bfloat16" and training["parameters"] > 1.3e9


@pytest.mark.parametrize("word", ["curve=[lora_13b]", "curve_steps=0"])
def test_a_curve_that_cannot_be_is_refused(word):
    with pytest.raises(InputError, match="curve"):
        check_command(composed(*SMALL, word), "benchmark")
