"""Sweeps by submitit: level by level, each stage once."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPO
from harness import slurm
from harness.commands import TINY

from cwpo.errors import InputError
from cwpo.execution import cluster
from cwpo.execution.cluster import StageJob, Submitit, chosen
from cwpo.execution.levels import levels, run_levels
from cwpo.execution.node import Settings
from cwpo.execution.workers import Failed
from cwpo.pipeline.arms import distinct, expand

SIX = [*TINY, "method=human,ws_bt,cw_po", "seed=0,1"]


needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="the extra slurm is not installed")


# Levels


def test_a_stage_needs_only_earlier_levels_and_light_stages_before_it():
    nodes = distinct(expand(SIX))
    made = levels(nodes)
    assert sum(len(level.light) + len(level.jobs) for level in made) == len(nodes)
    done: set[str] = set()
    for level in made:
        for node in level.light:
            assert node.stage.light and {p.key for p in node.parents.values()} <= done
            done.add(node.key)
        for node in level.jobs:  # side by side: none may need another
            assert not node.stage.light and {p.key for p in node.parents.values()} <= done
        done |= {node.key for node in level.jobs}
    depth = [{node.name for node in level.jobs} for level in made]
    assert "pretrain_weak" in depth[0] and "train_annotator" in depth[1] and {"divergence", "evaluate"} == depth[-1]


def test_stages_that_are_done_open_no_level(tmp_path):
    nodes = distinct(expand(SIX))
    rest = [node for node in nodes if node.name == "evaluate"]
    assert [len(level.jobs) for level in levels(rest)] == [6]
    assert levels([]) == []


def test_all_jobs_of_a_level_end_before_the_next_and_a_failure_ends_the_sweep(tmp_path, monkeypatch):
    ran: list[list[str]] = []

    def submit(nodes, settings):
        ran.append([node.name for node in nodes])
        for node in nodes:
            yield node, Failed("no") if node.name == "pretrain_weak" else None

    monkeypatch.setattr("cwpo.execution.workers.run_stage", lambda *args: True)
    with pytest.raises(Failed, match="no"):
        run_levels(expand(SIX), Settings(str(tmp_path)), submit)
    assert len(ran) == 1 and {"pretrain_weak", "pretrain_strong"} <= set(ran[0])


# The choice


def test_the_words_of_a_launcher_are_taken_out_of_the_command_line(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: name)
    words = ["-m", "hydra/launcher=submitit_slurm", "seed=0,1", "hydra.launcher.partition=gpu",
             "+hydra.launcher.additional_parameters.nice=5", "hydra.launcher.timeout_min=7"]  # fmt: skip
    submit, rest = chosen(words)
    assert rest == ["-m", "seed=0,1"]
    assert isinstance(submit, Submitit) and submit.kind == "slurm"
    assert (submit.params["partition"], submit.params["timeout_min"]) == ("gpu", 7)
    assert submit.params["additional_parameters"] == {"nice": 5}
    assert chosen(["seed=0"]) == (None, ["seed=0"])
    assert chosen(["hydra/launcher=basic"]) == (None, [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["hydra/launcher=submitit_slrm"], "hydra/launcher=submitit_slrm is unknown; did you mean submitit_slurm"),
        (["hydra/launcher=submitit_slurm", "hydra.launcher.partitoin=a"], "unknown key hydra.launcher.partitoin; did you"),
        (["hydra/launcher=submitit_local"], "hydra/launcher=submitit_local needs the package submitit; pip install 'cwpo"),
        (["hydra/launcher=submitit_slurm"], "hydra/launcher=submitit_slurm needs Slurm's sbatch"),
        (["hydra.launcher.nodes=2"], "hydra.launcher.nodes=2 needs hydra/launcher="),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_refused(monkeypatch, words, problem):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(InputError) as refused:
        chosen(words)
    assert any(line.startswith(problem) for line in refused.value.problems), refused.value.problems


@needs_submitit
@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("timeout_min=24:00:00", r'submitit_local: Parameter "timeout_min" expected type'),
        ("nodes=2", "submitit_local: LocalExecutor can use only one node"),
        ("timeout_min=1,2", "timeout_min=1,2 is several values; a launcher takes one"),
    ],
)
def test_a_value_that_submitit_refuses_is_refused_before_any_work(setting, problem):
    with pytest.raises(InputError, match=problem):
        chosen(["hydra/launcher=submitit_local", f"hydra.launcher.{setting}"])


def test_processes_that_share_a_gpu_are_refused_before_their_jobs_start(tmp_path):
    settings = Settings(str(tmp_path), launch="ddp", processes=4)
    with pytest.raises(InputError, match=r"gpus_per_node=1; set hydra.launcher.gpus_per_node=4"):
        next(Submitit("slurm", {"gpus_per_node": 1})([], settings))


def test_a_job_reports_the_error_of_its_stage(tmp_path):
    (arm,) = expand(TINY)
    computed, error = StageJob(Settings(str(tmp_path), device="cpu"))(arm.nodes["align"])
    assert not computed and "is gone" in str(error)


# Whole sweeps


def manifests(store: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in store.glob("[!.]*/*/manifest.json")]
    return {made["key"]: made for made in found}


def check_sweep(folder: Path, said: str) -> None:
    """Six rows, and one manifest for every distinct stage, many of which several arms share."""
    arms = expand(SIX)
    nodes = distinct(arms)
    made = manifests(folder / "store")
    assert set(made) == {node.key for node in nodes}
    assert len(nodes) < 0.7 * sum(len(arm.run) for arm in arms)
    rows = (folder / "results" / "toy" / "runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    assert not list((folder / "store" / ".partial").glob("*"))


def sweep(folder: Path, *words: str, environment: dict[str, str] | None = None, timeout: float = 900) -> str:
    command = [sys.executable, str(REPO / "scripts" / "run.py"), "-m", *SIX, *words, "name=six", "device=cpu"]
    command += [f"store={folder}/store", f"results={folder}/results"]
    environment = (environment or dict(os.environ)) | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_submitit
@pytest.mark.slow
def test_six_arms_by_submitit_on_this_machine(tmp_path):
    check_sweep(tmp_path, sweep(tmp_path, "hydra/launcher=submitit_local"))


@needs_submitit
@pytest.mark.slurm
def test_six_arms_on_a_real_slurm(tmp_path):
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    with slurm.slurm(tmp_path / "slurm", cpus=2) as environment:
        words = ["cpus_per_task=1", "gpus_per_node=null", "timeout_min=60", "partition=main"]
        said = sweep(
            tmp_path,
            "hydra/launcher=submitit_slurm",
            *(f"hydra.launcher.{word}" for word in words),
            environment=environment,
        )
        check_sweep(tmp_path, said)
        jobs = list((tmp_path / "store" / ".hydra" / "submitit").glob("*"))
        light = sum(node.stage.light for node in distinct(expand(SIX)))
        assert (
            len([job for job in jobs if list(job.glob("*_result.pkl"))]) == len(manifests(tmp_path / "store")) - light
        )


@needs_submitit
def test_a_job_whose_time_is_up_is_queued_again_with_its_stage(tmp_path):
    (arm,) = expand(TINY)
    job = StageJob(Settings(str(tmp_path), device="cpu"))
    again = job.checkpoint(arm.nodes["prepare"])
    assert (again.function, again.args) == (job, (arm.nodes["prepare"],))
