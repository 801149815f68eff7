"""vLLM as an engine in a process of its own, by a stand-in module that has its classes and arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO, SMOKE
from harness.commands import TINY
from tiny import save, tiny_model, tiny_tokenizer

from cwpo.data.encoding import encode_prompts
from cwpo.errors import InputError
from cwpo.execution.node import Settings, run_node
from cwpo.models import vllm_engine
from cwpo.models.generation import prompt_seed, sample_responses
from cwpo.models.policy import load_policy
from cwpo.models.vllm_engine import EngineFailed, sample_by_vllm, vllm_problem
from cwpo.pipeline.arms import expand
from cwpo.store.store import Store

STANDIN = REPO / "tests" / "standin" / "with_vllm"
PROMPTS = ["ask me", "tell me about bread", "ask about warm bridges", "bread is"]


@pytest.fixture
def with_vllm(monkeypatch):
    """The interpreter of an environment that has vllm."""
    paths = [str(STANDIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    vllm_problem.cache_clear()
    yield sys.executable
    vllm_problem.cache_clear()


@pytest.fixture
def folder(tmp_path) -> Path:
    return save(tiny_model("llama", spread=3.0), tmp_path / "model")


def sample(folder: Path, python: str, prompts=PROMPTS, new: int = 6, context: int | None = 40, **settings):
    seeds = [prompt_seed(0, "sft", prompt) for prompt in prompts]
    return sample_by_vllm(
        folder,
        tiny_tokenizer(),
        prompts,
        seeds,
        temperature=0.95,
        max_new_tokens=new,
        context=context,
        python=python,
        **settings,
    )


@pytest.mark.soak
def test_responses_come_in_order_from_a_process_of_its_own(with_vllm, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STANDIN_NOTE", str(tmp_path / "note.json"))
    one = sample(folder, with_vllm)
    note = json.loads((tmp_path / "note.json").read_text())
    assert note["parent"] == os.getpid() and note["pid"] != os.getpid()
    assert note["dtype"] == "bfloat16"
    assert [set(row) for row in one] == [{"response", "n_tokens", "truncated", "same_tokens"}] * 4
    for row in one:
        words = len(row["response"].split())  # special tokens may be drawn too, and are not shown
        assert words + (not row["truncated"]) <= row["n_tokens"] <= 6
        assert row["n_tokens"] == 6 or not row["truncated"]
    # each draw depends on its own seed, not on what else is asked
    assert sample(folder, with_vllm, PROMPTS[2:]) == one[2:]


@pytest.mark.parametrize("context", [131_072, None])
def test_vllm_keeps_room_for_the_longest_text_not_for_the_whole_context(folder, monkeypatch, context):
    """It does not start where the keys and values of one text as long as its context do not fit into memory."""
    jobs = []

    def run(words, **settings):
        jobs.append(json.loads(Path(words[-1]).read_text()))
        return subprocess.CompletedProcess(words, 1)

    monkeypatch.setattr(vllm_engine, "vllm_problem", lambda python: None)
    monkeypatch.setattr(vllm_engine.subprocess, "run", run)
    with pytest.raises(EngineFailed):
        sample(folder, sys.executable, context=context)
    lengths = [len(ids) for ids in encode_prompts(tiny_tokenizer(), PROMPTS)]
    assert jobs[0]["context"] == max(lengths) + 6


@pytest.mark.soak
def test_top_1_is_greedy_search_in_both_engines(with_vllm, folder):
    ours = sample_responses(
        load_policy(folder),
        tiny_tokenizer(),
        PROMPTS,
        [0] * 4,
        temperature=0.95,
        top_k=1,
        max_new_tokens=6,
        batch_size=4,
    )
    assert sample(folder, with_vllm, top_k=1, dtype="float32") == ours


@pytest.mark.slow
def test_the_distribution_is_that_of_the_other_engine(with_vllm, folder):
    prompts = ["ask me"] * 1500
    ours = sample_responses(
        load_policy(folder), tiny_tokenizer(), prompts, list(range(1500)), temperature=0.95, max_new_tokens=1, batch_size=500
    )  # fmt: skip
    seeds = [2 * i for i in range(1500)]
    theirs = sample_by_vllm(
        folder, tiny_tokenizer(), prompts, seeds, temperature=0.95, max_new_tokens=1, context=None, python=with_vllm,
        dtype="float32",
    )  # fmt: skip
    shares = [pd.Series([row["response"] for row in rows]).value_counts(normalize=True) for rows in (ours, theirs)]
    both = pd.concat(shares, axis=1).fillna(0).to_numpy()
    assert len(both) > 3
    assert np.abs(both[:, 0] - both[:, 1]).max() < 0.06  # 4 standard errors of a difference of shares


def test_a_failure_names_the_last_line_and_the_log(with_vllm, folder, monkeypatch):
    monkeypatch.setenv("STANDIN_FAILS", "1")
    with pytest.raises(EngineFailed, match=r"0 of 4 prompts: RuntimeError: CUDA out of memory; log: (\S+)") as failed:
        sample(folder, with_vllm)
    log = Path(str(failed.value).rpartition("log: ")[2])
    assert "Traceback" in log.read_text()


def test_an_environment_without_vllm_is_refused_before_anything_runs(tmp_path):
    vllm_problem.cache_clear()
    said = f"generation.python={sys.executable} has no vllm"
    with pytest.raises(InputError, match="has no vllm"):
        expand(["generation.engine=vllm", f"generation.python={sys.executable}"])
    assert str(vllm_problem(sys.executable)).startswith(said)
    for word, problem in {
        "generation.engine=vlm": "generation.engine=vlm is unknown; did you mean vllm?",
        "generation.engine=vllm": "generation.engine=vllm needs generation.python=",
    }.items():
        with pytest.raises(InputError) as refused:
            expand([word])
        assert any(line.startswith(problem) for line in refused.value.problems)
    assert "is no program" in str(vllm_problem(str(tmp_path / "nothing")))


def test_an_online_arm_cannot_sample_by_vllm(with_vllm):
    with pytest.raises(InputError, match="an online arm samples from the one under training"):
        expand(["method=online_cw_po", "generation.engine=vllm", f"generation.python={with_vllm}"])


def test_the_engine_is_part_of_the_key_and_its_place_is_not(with_vllm, tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    (default,) = expand(SMOKE)
    (engine,) = expand([*SMOKE, "generation.engine=vllm", f"generation.python={with_vllm}"])
    (elsewhere,) = expand([*SMOKE, "generation.engine=vllm", f"generation.python={link}"])
    changed = {name for name, node in default.nodes.items() if engine.nodes[name].key != node.key}
    assert changed == {"generate_sft", "generate", "divergence", "evaluate"}
    assert {n: node.key for n, node in engine.nodes.items()} == {n: node.key for n, node in elsewhere.nodes.items()}
    assert "engine" not in default.nodes["generate"].hashed["generation"]


@pytest.mark.slow
def test_a_stage_writes_what_it_writes_with_the_other_engine(with_vllm, tmp_path):
    (plain,) = expand([*TINY, "method=human"])
    (arm,) = expand([*TINY, "method=human", "generation.engine=vllm", f"generation.python={with_vllm}"])
    settings = Settings(str(tmp_path), device="cpu")
    tables = []
    for made in (plain, arm):
        for node in made.nodes["generate_sft"].ancestors():
            run_node(node, settings)
        tables.append(pd.read_parquet(made.nodes["generate_sft"].folder(Store(tmp_path)) / "responses.parquet"))
    assert list(tables[0].columns) == list(tables[1].columns)
    assert tables[0]["prompt_id"].tolist() == tables[1]["prompt_id"].tolist()
    assert tables[1]["response"].str.len().gt(0).any()
    assert vllm_engine.WORKER.is_file()
