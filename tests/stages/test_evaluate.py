"""GRA counts real differences of gold rewards, as the tables do, and no rounding errors."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from stages.test_resume import CONFIG, ROWS, parents  # noqa: F401

from cwpo.stages.base import Work
from cwpo.stages.evaluate import EVALUATE


class Rounding:
    """A gold model whose rewards of equal texts differ from call to call, as in another batch, by at most `size`."""

    def __init__(self, size: float) -> None:
        self.size, self.calls = size, 0

    def rewards(self, prompts, responses) -> np.ndarray:
        self.calls += 1
        return np.array([text.count("x") for text in responses]) + self.size * self.calls


def evaluated(gold, parents, aligned, folder, monkeypatch) -> dict:  # noqa: F811
    """Returns the metrics of an aligned model that answers `aligned` where its SFT model answers 0 to ROWS - 1 x."""
    table = pd.read_parquet(parents["generate"] / "responses.parquet")
    (folder / "aligned").mkdir()
    table.assign(response=aligned).to_parquet(folder / "aligned" / "responses.parquet")
    monkeypatch.setattr("cwpo.models.gold.load_gold", lambda *a: gold)
    (folder / "out").mkdir()
    nodes = parents | {"generate": folder / "aligned"}
    EVALUATE.run(Work(folder / "out", CONFIG, nodes, SimpleNamespace(shows=False), scratch=folder / "scratch"))
    return json.loads((folder / "out" / "metrics.json").read_text())


def test_equal_responses_are_ties_whatever_their_batches(parents, tmp_path, monkeypatch):  # noqa: F811
    aligned = [i * "x" if i < 7 else (i + 1) * "x" for i in range(ROWS)]
    found = evaluated(Rounding(0.01), parents, aligned, tmp_path, monkeypatch)
    assert (found["gra"], found["tie_rate"]) == (0.3, 0.7)


@pytest.mark.parametrize(("size", "ties"), [(1e-9, 1.0), (1e-3, 0.1)])
def test_rounding_errors_of_rewards_are_ties(size, ties, parents, tmp_path, monkeypatch):  # noqa: F811
    aligned = [i * "x" + "." * bool(i) for i in range(ROWS)]  # other texts of equal worth, but for the first
    found = evaluated(Rounding(size), parents, aligned, tmp_path, monkeypatch)
    assert (found["gra"], found["tie_rate"]) == pytest.approx((1 - ties, ties))
