"""The tracker: JSON lines always; with W&B settings one run per stage, read back from W&B's own file on disk."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO, SMOKE
from wandb.proto import wandb_internal_pb2

from cwpo.pipeline.graph import PATHS
from cwpo.tracking import Tracker, wandb_mode

OFFLINE = {"project": "cwpo-tests", "entity": None, "mode": "offline"}
FILE_HEADER, BLOCK, FULL, LAST = 7, 32768, 1, 4


def records(file: Path) -> list:
    """Every whole record of a .wandb file: a LevelDB log of protocol buffers in blocks of 32 KiB."""
    content, at, parts, found = file.read_bytes(), FILE_HEADER, b"", []
    assert content[:4] in (b":W&B", b"")
    while at + 7 <= len(content):
        room = BLOCK - at % BLOCK
        if room < 7:
            at += room
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + size > len(content):
            break
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def values(items) -> dict:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def read_run(folder: Path, key: str) -> dict:
    """What W&B wrote offline about the run `key`. Its service may still be writing when `finish` returns."""
    (file,) = folder.rglob(f"run-{key}.wandb")
    deadline = time.monotonic() + 30
    while "exit_code" not in (run := parse(file)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return run


def parse(file: Path) -> dict:
    run = {"history": [], "summary": {}}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"group": record.run.run_group, "job_type": record.run.job_type, "id": record.run.run_id}
            run |= {"project": record.run.project, "config": values(record.run.config.update)}
        elif kind == "history":
            run["history"].append(values(record.history.item))
        elif kind == "summary":
            run["summary"] |= values(record.summary.update)
        elif kind == "exit":
            run["exit_code"] = record.exit.exit_code
    return run


def tracker(folder: Path, key: str, wandb: dict | None = OFFLINE) -> Tracker:
    stage_folder = folder / key
    stage_folder.mkdir()
    config = {"seed": 3, "objective": {"name": "dpo", "beta": 0.5}}
    return Tracker(
        stage_folder, stage="align", key=key, group="table1", config=config, wandb=wandb, wandb_dir=folder / "w"
    )


def test_a_stage_is_a_run_with_its_config_curve_and_summary(tmp_path):
    rows = [{"loss": 0.7, "rewards/margins": 0.0}, {"loss": 0.5, "rewards/margins": 0.25}]
    with tracker(tmp_path, "0123456789abcdef") as track:
        for step, row in enumerate(rows, 1):
            track.log(row, step)
        track.summary({"train_seconds": 1.5, "pairs": {"labeled": 30}})
    run = read_run(tmp_path, "0123456789abcdef")
    assert (run["project"], run["group"], run["job_type"]) == ("cwpo-tests", "table1", "align")
    assert (run["id"], run["exit_code"], run["summary"]["train_seconds"]) == ("0123456789abcdef", 0, 1.5)
    assert run["config"]["seed"] == 3 and run["config"]["objective"] == {"name": "dpo", "beta": 0.5}
    curve = [{name: row[name] for name in ("_step", "loss", "rewards/margins")} for row in run["history"]]
    assert curve == [{"_step": step, **row} for step, row in enumerate(rows, 1)]
    lines = (tmp_path / "0123456789abcdef" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, **row} for step, row in enumerate(rows, 1)]


def test_an_error_in_the_block_ends_the_run_with_exit_code_1_and_keeps_the_curve(tmp_path):
    def fail():
        with tracker(tmp_path, "fails") as track:
            track.log({"loss": 0.7}, step=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    run = read_run(tmp_path, "fails")
    assert run["exit_code"] == 1
    assert [row["loss"] for row in run["history"]] == [0.7]
    assert (tmp_path / "fails" / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.7}\n'


def test_two_trackers_of_one_process_do_not_bleed_into_each_other(tmp_path):
    with tracker(tmp_path, "outer") as outer, tracker(tmp_path, "inner") as inner:
        outer.log({"loss": 1.0}, step=1)
        inner.log({"reward": 2.0}, step=1)
        outer.summary({"name": "outer"})
        inner.summary({"name": "inner"})
    one, two = read_run(tmp_path, "outer"), read_run(tmp_path, "inner")
    assert ["reward" in row for row in one["history"]] == [False]
    assert ["loss" in row for row in two["history"]] == [False]
    assert (one["summary"]["name"], two["summary"]["name"]) == ("outer", "inner")


def test_without_wandb_settings_there_are_json_lines_and_no_run(tmp_path):
    with tracker(tmp_path, "plain", wandb=None) as track:
        track.log({"loss": 0.25})
        track.summary({"train_seconds": 1.0})
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["metrics.jsonl"]
    assert json.loads((tmp_path / "plain" / "metrics.jsonl").read_text()) == {"loss": 0.25}


@pytest.mark.parametrize(
    ("mode", "environment", "netrc", "expected"),
    [
        ("auto", {}, None, "offline"),
        ("auto", {"WANDB_API_KEY": "x"}, None, "online"),
        ("auto", {}, "machine api.wandb.ai login user password x", "online"),
        ("auto", {}, "machine example.org login user password x", "offline"),
        ("auto", {"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, None, "offline"),
        ("offline", {"WANDB_API_KEY": "x"}, None, "offline"),
        ("online", {}, None, "online"),
    ],
)
def test_auto_is_online_only_with_a_key(monkeypatch, tmp_path, mode, environment, netrc, expected):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    if netrc is not None:
        (tmp_path / ".netrc").write_text(netrc)
    assert wandb_mode(mode) == expected


@pytest.mark.soak
def test_every_stage_of_a_sweep_is_a_run_of_its_own(tmp_path):
    command = [sys.executable, str(REPO / "scripts/run.py"), "-m", *SMOKE, "method=human,cw_po", "logger=wandb"]
    command += ["logger.mode=offline", "name=both", f"store={tmp_path}/store", f"results={tmp_path}/results"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    manifests = {m["key"]: m for m in map(manifest, tmp_path.glob("store/*/*/manifest.json"))}
    assert {m["stage"] for m in manifests.values()} >= {"pretrain", "prepare", "sft", "align", "evaluate"}
    assert len([m for m in manifests.values() if m["stage"] == "align"]) == 2
    for key, made in manifests.items():
        run = read_run(tmp_path, key)
        assert (run["project"], run["group"], run["job_type"], run["id"]) == ("cwpo", "both", made["stage"], key)
        assert run["exit_code"] == 0
        for name, value in made["config"].items():
            if name not in PATHS:
                assert holds(run["config"][name], value)
        if made["stage"] == "assess":
            check_calibration(tmp_path, run, made)
        if made["stage"] == "evaluate":
            check_evaluation(tmp_path, run, made)
        if made["stage"] == "align":
            assert {"loss", "rewards/margins", "weights/mean"} <= set(run["history"][-1])
        for name, value in made["summary"].items():
            assert run["summary"][name] == value
    check_group(tmp_path, manifests)


def check_group(folder: Path, manifests: dict) -> None:
    """The sweep's own runs: one for each arm, with its axes and measurements for a parallel-coordinates view, and the table."""
    keys = {path.stem.removeprefix("run-") for path in folder.rglob("run-*.wandb")} - manifests.keys()
    added = [read_run(folder, key) for key in keys]
    arms, (whole,) = ([run for run in added if run["job_type"] == kind] for kind in ("arm", "sweep"))
    assert {run["group"] for run in added} == {"both"} and {run["exit_code"] for run in added} == {0}
    assert sorted(run["config"]["method"] for run in arms) == ["cw_po", "human"]
    measured = {m["summary"]["reward_mean"] for m in manifests.values() if m["stage"] == "evaluate"}
    assert {run["summary"]["reward_mean"] for run in arms} == measured
    columns, rows = logged_table(folder, whole, "sweep/arms")
    assert columns[:2] == ["method", "gra"] and len(rows) == 2
    assert whole["config"]["axes"] == ["method", "seed"]


def holds(config, part) -> bool:
    """Whether all of `part` is in the config; a manifest leaves out settings at which nothing differs."""
    if isinstance(part, dict):
        return all(name in config and holds(config[name], value) for name, value in part.items())
    return config == part


def logged_table(folder: Path, run: dict, name: str) -> tuple[list[str], list[list]]:
    """Columns and rows of a table that a run logged, from the file beside its history."""
    (path,) = [row[f"{name}/path"] for row in run["history"] if f"{name}/path" in row]
    file, *_ = folder.rglob(path.rpartition("/")[2])  # equal tables have equal names
    content = json.loads(file.read_text())
    return content["columns"], content["data"]


def check_calibration(folder: Path, run: dict, made: dict) -> None:
    columns, rows = logged_table(folder, run, "annotator/calibration")
    assert columns == ["expected accuracy", "accuracy", "low", "high", "pairs"]
    pairs = sum(row[-1] for row in rows)
    assert pairs == made["summary"]["n_eval"]
    assert sum(row[1] * row[-1] for row in rows) / pairs == pytest.approx(made["summary"]["accuracy_human"])
    assert rows == sorted(rows) and all(0.5 <= row[0] <= 1 for row in rows)
    charts = {key.split("_table")[0] for row in run["history"] for key in row if "_table" in key}
    assert charts >= {"annotator/reliability", "annotator/coverage"}
    _, covered = logged_table(folder, run, "annotator/most_confident")
    assert covered[-1][1] == pytest.approx(made["summary"]["accuracy_human"])


def check_evaluation(folder: Path, run: dict, made: dict) -> None:
    _, rows = logged_table(folder, run, "evaluation/models")
    rewards = {row[0]: row[1] for row in rows}
    assert rewards["aligned"] == pytest.approx(made["summary"]["reward_mean"])
    assert rewards["sft"] == pytest.approx(made["summary"]["reward_sft_mean"])
    columns, answers = logged_table(folder, run, "evaluation/responses")
    assert len(answers) == min(100, made["summary"]["n_eval"])
    assert columns[1:4] == ["prompt", "response_sft", "response"]


def manifest(path: Path) -> dict:
    return json.loads(path.read_text())
