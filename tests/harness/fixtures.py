"""Fixtures of the fault tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FULL = os.environ.get("CWPO_FAULTS", "bounded") == "full"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """A folder in which the sweep of `commands` ran to its end in one go."""
    from harness.commands import run

    folder = tmp_path_factory.mktemp("undisturbed")
    code, said = run("sweep", ["1"], folder)
    assert code == 0, said
    return folder
