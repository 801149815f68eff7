"""A training stage in several processes by `accelerate launch`: the same update, failures in one line, nobody left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from config.test_schema import composed
from conftest import REPO
from harness.commands import TINY
from safetensors.torch import load_file

from cwpo.checks.settings import setting_problems
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.execution.node import Settings, run_node
from cwpo.execution.processes import LaunchFailed, command
from cwpo.execution.workers import Failed, run_stage
from cwpo.pipeline.arms import expand
from cwpo.pipeline.graph import Node
from cwpo.store.store import Store
from cwpo.training.checkpoints import SEAL
from cwpo.training.sharing import SharedBatches

# Plain gradient descent: an adaptive step would blow the last bits up.
SGD = ["optimizer=sgd", "learning_rate=0.05", "scheduler=constant", "warmup_steps=0", "max_grad_norm=1e9"]
WORDS = [
    *TINY,
    "method=cw_po",
    *(f"{part}.{word}" for part in ("sft", "alignment", "annotator.training") for word in SGD),
]
WORDS += ["sft.batch_size=16", "sft.micro_batch_size=8", "alignment.batch_size=16", "alignment.micro_batch_size=4"]


# Who gets which rows


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 11, 16, 17, 40])
@pytest.mark.parametrize(("processes", "micro"), [(2, 4), (4, 1), (4, 2), (2, 8)])
def test_every_row_is_dealt_once_and_all_processes_take_equally_many_steps(rows, processes, micro):
    from accelerate.data_loader import SeedableRandomSampler

    size = 2 * processes * micro
    shares = [
        SharedBatches(
            SeedableRandomSampler(range(rows), data_seed=7),
            batch_size=size,
            micro=micro,
            process=process,
            processes=processes,
        )
        for process in range(processes)
    ]
    dealt = [list(share) for share in shares]
    assert {len(share) for share in dealt} == {len(shares[0])}
    order = list(SeedableRandomSampler(range(rows), data_seed=7))
    assert sorted(row for share in dealt for batch in share for row in batch if row >= 0) == sorted(order)
    assert all(batch for share in dealt for batch in share)
    # the global batches are those of one process
    parts = [shares[0]._parts(len(order[first : first + size])) for first in range(0, rows, size)]
    at = 0
    for number, count in enumerate(parts):
        together = [row for share in dealt for batch in share[at : at + count] for row in batch if row >= 0]
        assert sorted(together) == sorted(order[number * size : (number + 1) * size])
        at += count
    assert all(len(batch) <= micro for share in dealt for batch in share[: 2 * (rows // size)])


def test_another_epoch_has_another_order():
    from accelerate.data_loader import SeedableRandomSampler

    share = SharedBatches(SeedableRandomSampler(range(8), data_seed=7), batch_size=4, micro=2, process=0, processes=2)
    first = list(share)
    share.set_epoch(0)
    assert list(share) == first
    share.set_epoch(1)
    assert list(share) != first


# Settings


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["launch=dpp"], "launch=dpp is unknown; did you mean ddp? valid: none, ddp, fsdp"),
        (["processes=2"], "processes=2 needs launch=ddp or launch=fsdp"),
        (["launch=ddp", "processes=0"], "processes=0 must be at least 1"),
        (["launch=ddp", "processes=2", "jobs=2"], "launch=ddp gives a stage all GPUs"),
        (["launch=ddp", "processes=3"], "sft.batch_size=64 is not a multiple of processes=3"),
        (
            ["launch=fsdp", "processes=2", "alignment.micro_batch_size=64"],
            "alignment.batch_size=64 is not a multiple of processes=2 x alignment.micro_batch_size=64",
        ),
        (["checkpoint_minutes=0"], "checkpoint_minutes=0.0 must be positive"),
        (["checkpoint_steps=0"], "checkpoint_steps=0 must be at least 1"),
    ],
)
def test_settings_that_cannot_be(words, problem):
    problems = setting_problems(composed(*words))
    assert any(line.startswith(problem) for line in problems), problems


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"sft.precision=float17 is unknown; did you mean|valid: float32, bfloat16"):
        expand(["sft.precision=float17"])


def test_a_launch_enters_no_key():
    (plain,), (launched,) = expand(TINY), expand([*TINY, "launch=ddp", "processes=2", "checkpoint_steps=5"])
    assert {n: node.key for n, node in plain.nodes.items()} == {n: node.key for n, node in launched.nodes.items()}


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_shipped_configs_are_what_accelerate_reads(how):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(CONF / "accelerate" / f"{how}.yaml"))
    kinds = {"ddp": "MULTI_GPU", "fsdp": "FSDP"}
    assert config.distributed_type.value == kinds[how]
    assert yaml.safe_load((CONF / "accelerate" / f"{how}.yaml").read_text())["mixed_precision"] == "no"
    words = command(Path("job.json"), how, 4)
    assert words[words.index("--num_processes") + 1] == "4" and words[-1] == "job.json"


# Runs


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """A store with all stages before `align`."""
    torch.set_num_threads(1)
    store = tmp_path_factory.mktemp("ready") / "store"
    for node in aligned().ancestors():
        if node.name != "align":
            run_node(node, Settings(str(store), device="cpu"))
    return store


def aligned(*words: str) -> Node:
    (arm,) = expand([*WORDS, *words])
    return arm.nodes["align"]


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for _, tensor in sorted(load_file(folder).items())])


def update(ready: Path, folder: Path, node: Node, **settings) -> tuple[torch.Tensor, Path]:
    """What `align` moves from its SFT model, run in a store of its own."""
    store = folder / "store"
    shutil.copytree(ready, store)
    for parent in [*node.ancestors()][:-1]:  # with adapters the SFT model is another one
        run_node(parent, Settings(str(store), device="cpu"))
    run_node(node, Settings(str(store), device="cpu", **settings))
    before = node.parents["sft"].folder(Store(store)) / "model" / "model.safetensors"
    after = node.folder(Store(store)) / "model" / "model.safetensors"
    return weights(after) - weights(before), store


def close(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def curve(node: Node, store: Path) -> list[dict]:
    return [json.loads(line) for line in (node.folder(Store(store)) / "metrics.jsonl").open()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "words"), [(None, []), (64, []), (None, ["lora.enabled=true", "alignment.gradient_checkpointing=true"])]
)
def test_two_processes_make_the_update_of_one(tmp_path, ready, budget, words):
    if words:
        pytest.importorskip("peft")
    node = aligned(*words)
    one, first = update(ready, tmp_path / "one", node, token_budget=budget)
    two, second = update(ready, tmp_path / "two", node, launch="ddp", processes=2, token_budget=budget)
    assert one.norm() > 0
    assert close(two, one) < (1e-4 if words else 1e-5)  # small updates of adapters are rounded when they are merged
    pairs = json.loads((node.folder(Store(second)) / "manifest.json").read_text())["summary"]["n_train"]
    assert pairs % 16  # the last batch is a short one
    for ours, theirs in zip(curve(node, second), curve(node, first), strict=True):
        for name in theirs.keys() - {"rewards/accuracies", "epoch"}:  # ties at step 0; share of micro-batches
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "train_annotator"])
def test_other_stages_too(tmp_path, ready, name):
    node = next(n for n in aligned().ancestors() if n.name == name)
    stores = {}
    for processes, how in ((1, "none"), (2, "ddp")):
        stores[processes] = tmp_path / str(processes)
        shutil.copytree(ready, stores[processes])
        shutil.rmtree(node.folder(Store(stores[processes])))
        run_node(node, Settings(str(stores[processes]), device="cpu", launch=how, processes=processes))
    one, two = (weights(node.folder(Store(s)) / "model" / "model.safetensors") for s in stores.values())
    assert close(two, one) < 1e-5
    assert not torch.equal(one, two) or name != "sft"


@pytest.mark.slow
def test_adapters_of_a_sharded_model_are_merged_into_it(tmp_path, ready):
    pytest.importorskip("peft")
    node = aligned("lora.enabled=true", "alignment.gradient_checkpointing=true")
    one, _ = update(ready, tmp_path / "one", node)
    settings = {"launch": "fsdp", "processes": 2, "checkpoint_steps": 3}
    sharded, _ = update(ready, tmp_path / "sharded", node, **settings)
    assert one.norm() > 0
    assert close(sharded, one) < 1e-4


@pytest.mark.slow
def test_a_sharded_model_trains_resumes_and_is_saved_whole(tmp_path, ready):
    node = aligned("alignment.epochs=3")
    one, _ = update(ready, tmp_path / "one", node)
    sharded, whole = update(ready, tmp_path / "whole", node, launch="fsdp", processes=2)
    assert close(sharded, one) < 1e-4
    stopped = tmp_path / "stopped"
    shutil.copytree(ready, stopped)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(stopped), "fsdp", "alignment.epochs=3"],
        env=os.environ | {"PYTHONPATH": f"{REPO}:{REPO / 'tests'}"},
        stdout=subprocess.DEVNULL,
    )
    checkpoints = Store(stopped).scratch("align", node.key) / "checkpoints"
    wait_for(lambda: list(checkpoints.glob(f"checkpoint-*/{SEAL}")), process)
    ranks = workers(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(ranks, timeout=15)
    assert not [rank for rank in ranks if rank.is_running()]  # nobody trains for a parent that is gone
    sealed = max(int(f.parent.name.partition("-")[2]) for f in checkpoints.glob(f"checkpoint-*/{SEAL}"))
    steps: list[int] = []
    settings = Settings(str(stopped), device="cpu", launch="fsdp", processes=2, checkpoint_steps=2)
    run_node(node, settings, lambda done, total: steps.append(done))
    assert steps[0] == sealed + 1
    ours, theirs = (node.folder(Store(s)) / "model" / "model.safetensors" for s in (stopped, whole))
    assert close(weights(ours), weights(theirs)) < 1e-6


RUN = """
import sys
from execution.test_processes import aligned
from cwpo.execution.node import Settings, run_node
store, how, *words = sys.argv[1:]
run_node(aligned(*words), Settings(store, device="cpu", launch=how, processes=2, checkpoint_steps=2))
"""


def wait_for(found, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "cwpo.execution.member" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_failure_is_one_line_with_the_path_of_the_log(tmp_path, ready):
    node = aligned("alignment.learning_rate=1e9")
    store = tmp_path / "store"
    shutil.copytree(ready, store)
    with pytest.raises(Failed) as failed:
        run_stage(node, Settings(str(store), device="cpu", launch="ddp", processes=2))
    said = str(failed.value)
    assert "\n" not in said
    assert said.startswith(f"stage align ({node.key}) failed in 2 processes: FloatingPointError: the ")
    log = Path(said.rpartition("; log: ")[2])
    assert "FloatingPointError" in log.read_text()
    assert isinstance(failed.value.__cause__, LaunchFailed)
    assert not node.done(Store(store))
