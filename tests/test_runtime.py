"""Which device a command uses, and how many GPUs one training takes."""

import gc
import os
import weakref
from dataclasses import replace

import pytest
import torch
from harness.commands import TINY
from transformers import TrainingArguments

from cwpo.errors import InputError
from cwpo.execution import node
from cwpo.execution.node import Settings, run_node
from cwpo.pipeline.arms import expand
from cwpo.runtime import PICKED, free_memory, pick_device


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("4,7", "7"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_numbered_gpu_is_the_only_one_that_is_seen(monkeypatch, visible, expected):
    """Asked again, as every stage does, torch sees that one alone."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 if PICKED in os.environ else 2)
    monkeypatch.setenv(PICKED, "")  # so that it is put back
    monkeypatch.delenv(PICKED)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for _ in range(3):
        assert pick_device("cuda:1") == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    with pytest.raises(InputError, match="device=cuda:2 is not there"):
        pick_device("cuda:2")


def test_a_training_takes_one_gpu_of_several(monkeypatch, tmp_path):
    """transformers would wrap the model in nn.DataParallel and take as many batches as it sees GPUs."""
    from tiny import arguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: getattr(self, "_n_gpu", 2) or 2))
    made = arguments(tmp_path, rows=8, batch_size=4)
    assert made.n_gpu == 1 and made.train_batch_size == 4


def test_what_only_refers_to_itself_is_gone_from_a_gpu():
    gc.disable()
    try:
        for device, there in (("cpu", True), ("cuda", False)):
            model = torch.nn.Linear(1, 1)
            model.trainer = lambda model=model: model
            alive = weakref.ref(model)
            del model
            free_memory(device)
            assert (alive() is not None) is there
    finally:
        gc.enable()


def test_a_stage_leaves_its_gpu_to_others(tmp_path, monkeypatch):
    freed = []
    monkeypatch.setattr(node, "free_memory", freed.append)
    (arm,) = expand(TINY)
    light = arm.nodes["prepare"]
    run_node(light, Settings(str(tmp_path / "one"), device="cpu"))
    assert light.stage.light and freed == []  # it loads no model
    run_node(replace(light, stage=replace(light.stage, light=False)), Settings(str(tmp_path / "other"), device="cpu"))
    assert freed == ["cpu"]
