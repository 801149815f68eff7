"""Every experiment, cut down to seconds: its arms run, enter the results, and the report shows them."""

import pandas as pd
import pytest
from conftest import SMOKE
from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand
from cwpo.pipeline.record import record
from cwpo.report.build import build_report
from cwpo.store.store import Store

QUICK = ("figure6", "figure7", "table22")  # most stages between them; the others run as soak tests
EXPERIMENTS = [
    pytest.param(path.stem, marks=[] if path.stem in QUICK else pytest.mark.soak)
    for path in sorted((CONF / "experiment").glob("*.yaml"))
]
ONE_EACH = ("pair", "data", "seed", "objective", "data.pairs")  # axes whose values run the same code
ARMS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


def smoke_arms(experiment: str, folder) -> list:
    """At most ARMS arms, spread over the grid."""
    axes = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").hydra.sweeper.params
    first = [f"{axis}={str(axes[axis]).split(',')[0]}" for axis in ONE_EACH if axis in axes]
    smoke = [line for line in SMOKE if line.split("=")[0] not in axes]
    arms = expand([f"experiment={experiment}", *first, *smoke, "data.pairs=120", f"store={folder}/store"])
    return arms[:: -(-len(arms) // ARMS)]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_runs_to_its_rows(experiment, folder):
    arms = smoke_arms(experiment, folder)
    store = Store(folder / "store")
    run_arms(arms, Settings.of(arms[0].cfg))
    written = record(arms, store, folder / "results", experiment=experiment, whole=True)
    table = {"assess": "annotators.csv", "embed": "embeddings.csv"}.get(arms[0].cfg.until, "runs.csv")
    rows = pd.read_csv(folder / "results/toy" / table)
    rows = rows[rows.experiment == experiment] if "experiment" in rows else rows
    assert len(rows) >= len(arms)
    assert set(rows.data) == {made.cfg.data.name for made in arms}
    assert all(path.is_file() for path in written)


def test_the_report_shows_them_all(folder):
    assert (folder / "results/toy/runs.csv").is_file(), "runs after the tests above"
    written = build_report(folder / "results", "toy")
    made = {path.stem for path in written}
    assert set(QUICK) <= made
    assert all(path.stat().st_size for path in written)
