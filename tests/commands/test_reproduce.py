"""Rows of other seeds and cells stay when a run adds some, as long as the experiment still has their arms."""

import pandas as pd
import pytest
from omegaconf import OmegaConf

from cwpo.commands import reproduce as command
from cwpo.commands.plan import _sweeps, show_plan
from cwpo.commands.reproduce import others_are_outdated
from cwpo.commands.sweep import with_references
from cwpo.config.commands import ReproduceConfig
from cwpo.errors import InputError
from cwpo.execution import workers
from cwpo.execution.node import Settings
from cwpo.pipeline.arms import expand
from cwpo.results import RUN_COLUMNS

WORDS = ["pair=opt_small", "data=harmless"]


@pytest.fixture
def results(tmp_path):
    """Result files with the rows of seeds 0 and 1."""
    return recorded(tmp_path, expand(["experiment=table5", *WORDS], [0, 1]))


def recorded(folder, arms):
    rows = [{"experiment": "table5", "scale": "toy", "seed": arm.cfg.seed, "run_key": arm.key} for arm in arms]
    (folder / "toy").mkdir(parents=True)
    pd.DataFrame(rows, columns=RUN_COLUMNS).to_csv(folder / "toy" / "runs.csv", index=False)
    return folder


@pytest.mark.parametrize("seeds", [[0], [2], [1, 2]])
def test_rows_of_other_seeds_stay(results, seeds):
    assert not others_are_outdated("table5", expand(["experiment=table5", *WORDS], seeds), results, WORDS)


def test_rows_of_other_settings_give_way(results, capsys):
    words = [*WORDS, "alignment.epochs=1"]
    assert others_are_outdated("table5", expand(["experiment=table5", *words], [2]), results, words)
    assert "table5: 16 rows of an earlier version are replaced" in capsys.readouterr().out


def test_without_rows_nothing_is_outdated(tmp_path):
    assert not others_are_outdated("table5", expand(["experiment=table5", *WORDS], [0]), tmp_path, WORDS)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("overrides", "whole"), [([], True), (["data=helpful"], False), (["alignment.epochs=1"], True)]
)
def test_overrides_that_narrow_the_sweep_leave_its_other_rows(tmp_path, monkeypatch, overrides, whole):
    """The store's name is one that Hydra would read as a number, and the results' name holds a comma."""
    said = {}
    monkeypatch.setattr(command, "run_arms", lambda arms, *_, **__: said.update(arms=arms))
    monkeypatch.setattr(command, "record", lambda group, store, folder, *, experiment, whole: said.update(whole=whole))
    monkeypatch.setattr("cwpo.report.build.build_report", lambda *_: [])
    folder = recorded(tmp_path / "a,b", expand(["experiment=table5", "data=harmless"], [0]))
    cfg = ReproduceConfig("table5", jobs=1, store="1e3", results=str(folder), overrides=overrides)
    command.reproduce(OmegaConf.structured(cfg))
    assert said["whole"] is whole
    assert {(arm.cfg.store, arm.cfg.results) for arm in said["arms"]} == {("1e3", str(folder))}


def test_plan_counts_the_arms_to_compare_with(monkeypatch):
    words = ["method=cw_po", "seed=0,1", "against=human"]
    arms, _ = with_references(expand(words), words)
    assert len(arms) == 4
    planned = []

    def make_plan(arms, store):
        planned.extend(arms)
        raise StopIteration

    monkeypatch.setattr("cwpo.commands.plan.make_plan", make_plan)
    with pytest.raises(StopIteration):
        show_plan(words)
    assert {arm.key for arm in planned} == {arm.key for arm in arms}


@pytest.mark.parametrize("words", [["scale=single_gpu"], ["-m", 'scale="single_gpu"']])
def test_a_plan_reads_the_words_of_a_sweep_as_run_does(words):
    """With `-m` or quotes, too: core at this scale is the headline, at toy scale it is other experiments."""
    ((planned, _),) = _sweeps(["experiment=core", *words])
    assert planned == ["experiment=headline", words[-1]]


GPUS = ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("gpus", "settings", "count"),
    [
        ([], {}, 2),
        (GPUS, {}, 4),
        (GPUS, {"device": "cpu"}, 2),
        (GPUS, {"device": "cuda:1"}, 1),
        (GPUS, {"launch": "ddp", "processes": 4}, 1),  # a training takes all GPUs, and each worker would see one
    ],
)
def test_as_many_workers_as_gpus_are_free_for_stages(monkeypatch, gpus, settings, count):
    monkeypatch.setattr(workers, "gpu_names", lambda: gpus)
    assert workers.workers_for(Settings("store", **settings)) == count


def test_several_workers_are_refused_where_a_stage_takes_all_gpus(tmp_path):
    places = {"store": str(tmp_path), "results": str(tmp_path)}
    cfg = ReproduceConfig("table5", seeds=[0], jobs=2, overrides=["launch=ddp", "processes=2"], **places)
    with pytest.raises(InputError, match="launch=ddp gives a stage all GPUs of the machine"):
        command.reproduce(OmegaConf.structured(cfg))
