"""Shared fixtures: one thread, no network, a world small enough for a pipeline in seconds."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "Agg")

REPO = Path(__file__).resolve().parent.parent

# A toy arm cut down to seconds. Its numbers mean nothing; its path is the real one.
SMOKE = [
    "world.sequences=2000",
    "data.pairs=120",
    "data.test_pairs=30",
    "evaluation.prompts=30",
    "annotator.training.epochs=1",
    "alignment.epochs=1",
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models beside the checkout; tests on real input skip without it."""
    folder = Path(os.environ.get("CWPO_SHARED", REPO.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: set CWPO_SHARED or put it at {folder}")
    return folder
