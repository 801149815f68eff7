"""A training that is cut off goes on from its last intact checkpoint and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPO
from harness.commands import TINY
from safetensors.torch import load_file
from tiny import parameters, tiny_model
from training import test_preference as made
from training.test_online import online
from transformers import TrainerCallback

from cwpo.execution.node import Settings, run_node
from cwpo.models.policy import add_lora
from cwpo.pipeline.arms import expand
from cwpo.store.store import Store
from cwpo.training.base import Curve
from cwpo.training.checkpoints import SEAL, Schedule, train

STEPS = {"batch_size": 4, "micro_batch_size": 2, "epochs": 4, "learning_rate": 0.01, "optimizer": "adamw_torch"}


class Stop(TrainerCallback):
    """Ends the training by an error when it has done so many steps, after what is due there is saved."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            raise KeyboardInterrupt


def watched(trainer, callbacks):
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def preference(folder: Path, callbacks, model=None):
    return watched(made.preference(folder, made.pairs(11), model, **STEPS), callbacks)


def adapters(folder: Path, callbacks):
    pytest.importorskip("peft")
    return preference(folder, callbacks, add_lora(tiny_model("llama"), r=2, alpha=4, dropout=0.0))


def sft(folder: Path, callbacks):
    model = tiny_model("opt", dropout=0.3)  # so that the random state counts
    return watched(made.sft(folder, 11, model=model, **STEPS), callbacks)


def bradley_terry(folder: Path, callbacks):
    return watched(made.bradley_terry(folder, made.TEXTS, **STEPS), callbacks)


def online_rounds(folder: Path, callbacks):
    """Rounds of 2 steps, and 3 steps an epoch: the second round of each has one."""
    settings = STEPS | {"batch_size": 3, "micro_batch_size": 3}
    return watched(online(folder, policy=tiny_model("opt", spread=4.0), per_round=2, **settings), callbacks)


def run(make, folder: Path, schedule: Schedule = Schedule(), stop: int | None = None):  # noqa: B008
    """Parameters at the end, the curve, and the steps that were made here; None for the first two if it was stopped."""
    curve, steps = [], []
    callbacks = [Curve(lambda values, step: curve.append((step, dict(values))), lambda d, t: steps.append(d))]
    trainer = make(folder, [*callbacks, *([Stop(stop)] if stop is not None else [])])
    try:
        train(trainer, schedule)
    except KeyboardInterrupt:
        return None, None, steps
    return parameters(trainer.model), curve, steps


# Stopped in the middle of an epoch of 3 steps, at its end, and where there is no checkpoint.
@pytest.mark.soak
@pytest.mark.parametrize(
    ("make", "stop"),
    [(preference, 5), (preference, 6), (adapters, 8), (sft, 8), (bradley_terry, 6), (online_rounds, 8)],
)
def test_a_training_goes_on_bit_for_bit(tmp_path, make, stop):
    whole, curve, _ = run(make, tmp_path / "whole")
    folder, every = tmp_path / "stopped", Schedule(steps=5 if stop == 5 else 3)
    assert run(make, folder, every, stop)[0] is None
    kept = 5 if stop == 5 else 6
    again, repeated, steps = run(make, folder, every)
    assert steps[0] == kept + 1 and steps[-1] == 12
    assert torch.equal(again, whole)
    assert [step for step, _ in repeated] == [step for step, _ in curve]
    for (_, values), (_, expected) in zip(repeated, curve):
        assert values == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_an_online_training_goes_on_between_rounds_only(tmp_path):
    whole = online_rounds(tmp_path / "whole", [])
    train(whole, Schedule())
    folder, every = tmp_path / "stopped", Schedule(steps=4)
    assert run(online_rounds, folder, every, stop=7)[0] is None  # step 4 is amid a round: the checkpoint is of step 5
    assert [f.name for f in folder.glob("checkpoint-*")] == ["checkpoint-5"]
    again = online_rounds(folder, [])
    train(again, every)
    assert again.pairs == whole.pairs
    assert torch.equal(parameters(again.model), parameters(whole.model))


def test_checkpoints_hold_safetensors_and_two_are_kept(tmp_path):
    run(preference, tmp_path, Schedule(steps=2), stop=9)
    kept = sorted(tmp_path.glob("checkpoint-*"))
    assert [folder.name for folder in kept] == ["checkpoint-6", "checkpoint-8"]
    for folder in kept:
        assert (folder / "model.safetensors").is_file()
        assert not [f.name for f in folder.iterdir() if f.suffix in (".bin", ".pkl")]
        torch.load(folder / "optimizer.pt", weights_only=True)
        torch.load(folder / "scheduler.pt", weights_only=True)


def test_after_so_many_minutes_there_is_a_checkpoint(tmp_path):
    run(preference, tmp_path, Schedule(minutes=1e-9), stop=3)
    assert {f.name for f in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}
    run(preference, tmp_path / "later", Schedule(minutes=60), stop=3)
    assert not list((tmp_path / "later").glob("checkpoint-*"))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "no seal": lambda c: (c / SEAL).unlink(),
    "half a seal": lambda c: (c / SEAL).write_text((c / SEAL).read_text()[:40]),
    "a flipped bit": lambda c: flip(c / "model.safetensors"),
    "a file cut short": lambda c: os.truncate(c / "optimizer.pt", 100),
    "a missing file": lambda c: (c / "scheduler.pt").unlink(),
    "an empty folder": lambda c: (shutil.rmtree(c), c.mkdir()),
    "other processes": lambda c: (c / SEAL).write_text(
        (c / SEAL).read_text().replace('"processes": 1', '"processes": 2')
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_skipped(tmp_path, damage):
    whole, _, _ = run(preference, tmp_path / "whole")
    folder = tmp_path / "stopped"
    run(preference, folder, Schedule(steps=3), stop=7)
    damage(folder / "checkpoint-6")
    again, _, steps = run(preference, folder, Schedule(steps=3))
    assert steps[0] == 4  # from the one before
    assert torch.equal(again, whole)


def test_without_an_intact_checkpoint_it_starts_again(tmp_path):
    whole, _, _ = run(preference, tmp_path / "whole")
    folder = tmp_path / "stopped"
    run(preference, folder, Schedule(steps=3), stop=4)
    DAMAGES["no seal"](folder / "checkpoint-3")
    again, _, steps = run(preference, folder, Schedule(steps=3))
    assert steps[0] == 1
    assert torch.equal(again, whole)


# A whole stage, killed

WORDS = [*TINY, "method=cw_po", "alignment.epochs=40", "seed=3"]
STAGE = f"""
import sys
from cwpo.execution.node import Settings, run_node
from cwpo.pipeline.arms import expand

(arm,) = expand({WORDS!r})
settings = Settings(sys.argv[1], device="cpu", checkpoint_steps=2)
def progress(done, total):
    print("step", done, flush=True)
run_node(arm.nodes["align"], settings, progress)
"""


def stage(store: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, str(store)], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Path]:
    """A store with all that `align` needs, and one with `align` as an undisturbed run without checkpoints makes it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stores")
    (arm,) = expand(WORDS)
    for node in arm.nodes["align"].ancestors():
        if node.name == "align":
            shutil.copytree(folder / "whole", folder / "ready")
        run_node(node, Settings(str(folder / "whole"), device="cpu"))
    return folder / "ready", folder / "whole"


@pytest.mark.slow
def test_a_stage_killed_with_signal_9_goes_on_to_the_same_weights(tmp_path, prepared):
    ready, whole = prepared
    store = tmp_path / "store"
    shutil.copytree(ready, store)
    (arm,) = expand(WORDS)
    node = arm.nodes["align"]
    checkpoints = Store(store).scratch("align", node.key) / "checkpoints"
    killed = stage(store)
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob(f"checkpoint-*/{SEAL}")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not node.done(Store(store))
    sealed = [int(f.parent.name.partition("-")[2]) for f in checkpoints.glob(f"checkpoint-*/{SEAL}")]
    again = stage(store)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    steps = [int(line.split()[1]) for line in said.splitlines() if line.startswith("step ")]
    assert steps[0] == max(sealed) + 1 > 1  # where it was, not at the start
    ours, theirs = (node.folder(Store(s)) / "model" / "model.safetensors" for s in (store, whole))
    assert ours.read_bytes() == theirs.read_bytes()
    assert load_file(ours)
    curves = [[json.loads(line) for line in (node.folder(Store(s)) / "metrics.jsonl").open()] for s in (store, whole)]
    assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]]
    assert curves[0][-1] == pytest.approx(curves[1][-1], rel=1e-6, abs=1e-9)
    assert not checkpoints.exists()  # removed when the stage was finished
