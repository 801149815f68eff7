"""A hub that accepts connections and never answers: everything that would ask it says so within seconds, and asks once."""

import os
import socket
import time

import pytest
from huggingface_hub import constants
from omegaconf import OmegaConf

from cwpo.commands.lock_assets import lock_assets
from cwpo.commands.plan import show_plan
from cwpo.config import hub
from cwpo.errors import InputError
from cwpo.planning.preflight.report import preflight

TABLE3 = ["scale=paper", "pair=opt_small", "data=tldr", "seed=0", "allow_unpinned=true"]


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A hub that accepts and is silent; yields the socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "WAIT", 0.3)
        hub.hub_answers.cache_clear()
        yield server
    hub.hub_answers.cache_clear()
    os.environ["HF_HUB_OFFLINE"] = "1"


def asked(server: socket.socket) -> int:
    """How many connections were opened."""
    server.settimeout(0.05)
    number = 0
    while True:
        try:
            server.accept()
        except TimeoutError:
            return number
        number += 1


def test_plan_counts_without_the_hub(silent, capsys, tmp_path):
    started = time.monotonic()
    show_plan(["experiment=table3", *TABLE3, f"store={tmp_path}/store"])
    shown = capsys.readouterr()
    assert time.monotonic() - started < 10 and asked(silent) == 1
    assert "2 arms, " in shown.out and "GPU-hours left" in shown.out
    assert "pair.strong=facebook/opt-1.3b is not in the cache, and the hub cannot be asked" in shown.out
    assert shown.err.count("does not answer; only folders here and files in its cache are used") == 1


def test_preflight_names_everything_that_it_cannot_look_at(silent, tmp_path):
    words = {"experiment": "table3", "scale": "paper", "seeds": [0], "store": str(tmp_path / "store")}
    cfg = OmegaConf.create(words | {"overrides": TABLE3[1:], "gpu_gib": 80, "disk_gib": 1000})
    started = time.monotonic()
    with pytest.raises(InputError) as refused:
        preflight(cfg)
    assert time.monotonic() - started < 10 and asked(silent) == 1
    text = "\n".join(refused.value.problems)
    assert "pair.weak=facebook/opt-125m is neither a folder here nor a model" in text
    assert "data.path=CarperAI/openai_summarize_comparisons cannot be reached" in text


def test_commits_cannot_be_looked_up(silent):
    with pytest.raises(InputError, match="no commit can be looked up without the hub"):
        lock_assets(OmegaConf.create({"assets": [], "update": False}))
