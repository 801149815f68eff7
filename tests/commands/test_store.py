"""scripts/store.py: what is in the store, what is damaged, why a stage would run, and what may go."""

import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest
from commands.test_entry import script
from omegaconf import OmegaConf

from cwpo.commands.checks import check_command
from cwpo.commands.store import garbage, look_after, referred_to
from cwpo.config.commands import StoreConfig
from cwpo.errors import InputError
from cwpo.pipeline.arms import distinct, expand
from cwpo.pipeline.explain import explain
from cwpo.results import ResultsError
from cwpo.store.store import Store, StoreError

DAY = 86400


def add(store: Store, stage: str, key: str, parents: dict[str, str] | None = None, *, days: float = 30) -> None:
    """A finished stage, written `days` ago."""

    def work(folder: Path) -> dict:
        (folder / "out.txt").write_text(key)
        return {}

    store.compute(stage, key, work, config={"a": 1}, parents=parents or {}, seed=0, version=1)
    at = time.time() - days * DAY
    os.utime(store.folder(stage, key), (at, at))


@pytest.fixture
def store(tmp_path) -> Store:
    """prepare -> annotate -> assess, prepare -> sft -> evaluate; and sft2 -> evaluate2, which no results name."""
    store = Store(tmp_path / "store")
    add(store, "prepare", "p")
    add(store, "annotate", "a", {"prepare": "p"})
    add(store, "assess", "m", {"annotate": "a"})
    add(store, "sft", "s", {"annotate": "a"})
    add(store, "evaluate", "e", {"sft": "s"})
    add(store, "sft", "s2", {"prepare": "p"})
    add(store, "evaluate", "e2", {"sft": "s2"})
    return store


@pytest.fixture
def results(tmp_path) -> Path:
    folder = tmp_path / "results"
    (folder / "toy").mkdir(parents=True)
    pd.DataFrame({"run_key": ["e", "elsewhere"], "gra": [0.5, 0.5]}).to_csv(folder / "toy" / "runs.csv", index=False)
    return folder


def do(store: Store, action: str, **settings) -> None:
    cfg = OmegaConf.structured(StoreConfig(action=action, store=str(store.root), **settings))
    look_after(cfg)


def names(store: Store) -> set[str]:
    return {key for _, key in store.finished()}


def test_garbage_is_what_results_do_not_need(store, results):
    found = garbage(store, referred_to(results), older_than=0)
    assert {entry.name for entry in found} == {"sft/s2", "evaluate/e2"}


def test_results_at_paper_scale_count_like_any_other(store, results):
    """Their folder also holds the paper's published numbers, which have no run keys."""
    (results / "paper").mkdir()
    (results / "paper" / "paper_results.csv").write_text("source,value\ntable1,56.9\n")
    (results / "paper" / "runs.csv").write_text("run_key\ne2\n")
    assert garbage(store, referred_to(results), older_than=0) == []


def test_young_stages_and_what_they_need_stay(store, results):
    add(store, "evaluate", "e3", {"sft": "s2"}, days=1)
    found = garbage(store, referred_to(results), older_than=7 * DAY)
    assert {entry.name for entry in found} == {"evaluate/e2"}


def test_stages_from_the_future_stay(store, results):
    add(store, "evaluate", "e3", {"sft": "s2"}, days=-1000)
    assert {entry.name for entry in garbage(store, referred_to(results), older_than=DAY)} == {"evaluate/e2"}


def test_collecting_garbage_says_what_it_would_do_and_does_it_when_told(store, results, capsys):
    (store.root / ".scratch" / "sft-x").mkdir(parents=True)
    do(store, "gc", results=str(results))
    said = capsys.readouterr().out
    assert "1 of 2 rows" in said and "2 stages and 1 left-overs" in said and "nothing was deleted" in said
    assert len(names(store)) == 7
    do(store, "gc", results=str(results), delete=True)
    assert names(store) == {"p", "a", "m", "s", "e"}
    assert not list((store.root / ".scratch").iterdir()) and not list((store.root / ".locks").iterdir())
    assert store.damaged() == {}


def test_result_files_that_lost_their_columns_are_no_licence_to_delete(store, results):
    """As a spreadsheet saves them where decimals have commas: with semicolons between the columns."""
    pd.DataFrame({"run_key": ["m"]}).to_csv(results / "toy" / "annotators.csv", index=False)
    pd.DataFrame({"run_key": ["e"], "gra": [0.5]}).to_csv(results / "toy" / "runs.csv", index=False, sep=";")
    with pytest.raises(ResultsError, match=r"runs.csv has no column run_key.*restore a copy"):
        do(store, "gc", results=str(results), delete=True)
    assert len(names(store)) == 7


def test_no_results_is_no_licence_to_delete_everything(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match="holds no result files, so all of the store would count as garbage"):
        do(store, "gc", results=str(tmp_path / "elsewhere"), delete=True)
    assert len(names(store)) == 7


def test_garbage_is_not_collected_on_damaged_grounds(store, results):
    (store.folder("sft", "s") / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        do(store, "gc", results=str(results), delete=True)
    (results / "toy" / "details.csv").write_text("")
    with pytest.raises(ResultsError, match=r"details\.csv is empty or damaged"):
        do(store, "gc", results=str(results), delete=True)
    assert len(names(store)) == 7


def test_verify_names_every_damaged_file_and_repair_deletes_their_stages_only(store, capsys):
    do(store, "verify")
    assert "7 stages, 7 files" in capsys.readouterr().out
    (store.folder("sft", "s") / "out.txt").write_text("S")
    (store.folder("annotate", "a") / "stranger").write_text("x")
    (store.folder("prepare", "p") / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"^3 files are damaged.*action=repair"):
        do(store, "verify")
    said = capsys.readouterr().out
    for line in (
        "sft/s/out.txt is damaged: it differs",
        "annotate/a/stranger is damaged",
        "prepare/p/manifest.json is",
    ):
        assert line in said
    do(store, "repair")
    assert names(store) == {"m", "e", "s2", "e2"}
    do(store, "verify")


def test_what_is_no_stage_is_never_deleted(store, results, capsys):
    """store= may name a folder that holds other things too: store=runs has the answers of a judge in runs/verdicts."""
    others = [
        store.root / name for name in ("verdicts/0a/answer.json", "sft/my-model/weights", "web/app/manifest.json")
    ]
    for file in others:
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    unfinished = store.folder("sft", "0123456789abcdef")
    unfinished.mkdir()
    for action in ("repair", "verify"):  # verify does not ask for a repair that would change nothing
        do(store, action)
        assert f"{store.root}/web/app stays" in capsys.readouterr().out
    assert all(file.is_file() for file in others) and not unfinished.exists()
    (store.root / "web/app/manifest.json").unlink()
    do(store, "verify")
    do(store, "gc", results=str(results), delete=True, older_than_days=0)
    assert all(file.is_file() for file in others[:2])


def test_drop_deletes_what_is_named(store):
    do(store, "drop", stages=["sft/s2"])
    assert names(store) == {"p", "a", "m", "s", "e", "e2"}
    with pytest.raises(InputError, match=r"stages=sft/S is not in .*valid: sft/s"):
        do(store, "drop", stages=["sft/S"])
    with pytest.raises(InputError, match=r"action=drop needs stages="):
        do(store, "drop")


def test_list_shows_counts_and_the_stages_of_a_kind(store, capsys):
    do(store, "list")
    said = capsys.readouterr().out
    assert "7 stages" in said and "30 d" in said and "evaluate" in said
    (store.folder("sft", "s2") / "manifest.json").write_text("{")
    do(store, "list", stages=["sft"])
    said = capsys.readouterr().out
    assert "sft/s " in said and "damaged" in said and "prepare" not in said


def test_unknown_actions_and_stores_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"action=verfy is unknown; did you mean verify\? valid: verify, list"):
        check_command(OmegaConf.structured(StoreConfig(action="verfy")), "store")
    with pytest.raises(InputError, match="does not exist"):
        do(Store(tmp_path / "nowhere"), "verify")


# --- why a stage would run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Store:
    """A store in which one arm is finished, as far as manifests say."""
    store = Store(tmp_path_factory.mktemp("ran"))
    for node in distinct(expand(["method=cw_po", "seed=0"])):
        store.compute(
            node.stage.name,
            node.key,
            lambda folder: {},
            config=node.hashed,
            parents={role: parent.key for role, parent in node.parents.items()},
            seed=0,
            version=node.stage.version,
        )
    return store


def test_nothing_would_run_twice(ran):
    (line,) = explain(ran, expand(["method=cw_po", "seed=0"]))
    assert line.endswith(" in the store, 0 to run")


def test_the_changed_key_is_named_and_then_the_parents_it_changes(ran):
    first, *reasons = explain(ran, expand(["method=cw_po", "seed=0", "alignment.learning_rate=3e-4"]))
    said = {line.split()[0]: line for line in reasons}
    assert first.endswith("4 to run")
    assert set(said) == {"align", "generate", "divergence", "evaluate"}
    assert ": alignment.learning_rate 3e-05 -> 0.0003 (nearest: align/" in said["align"]
    for stage in ("generate", "evaluate"):
        assert ": alignment.learning_rate 3e-05 -> 0.0003 (through align) (nearest: " in said[stage]


def test_what_several_stages_read_is_named_once_with_all_it_reaches(ran):
    _, *reasons = explain(ran, expand(["method=cw_po", "seed=1"]))
    said = {line.split()[0]: line for line in reasons}
    assert ": seed 0 -> 1 (nearest: prepare/" in said["prepare"]
    assert ": seed 0 -> 1 (nearest: align/" in said["align"]
    assert ": seed 0 -> 1 (through prepare" in said["score_gold"]
    assert "pretrain" not in said


def test_a_new_version_and_a_missing_kind_are_named(ran):
    _, *reasons = explain(ran, expand(["method=human", "seed=0", "gold=trained"]))
    said = {line.split()[0]: line for line in reasons}
    assert said["train_gold"].endswith("no stage train_gold is in the store")
    (key,) = [key for stage, key in ran.finished() if stage == "sft"]
    old = ran.recorded("sft", key)
    older = {**old, "version": 0, "key": "f"}  # another key, as another version has; no seal, as before there were any
    ran.folder("sft", key).rename(ran.folder("sft", "f"))
    (ran.folder("sft", "f") / "manifest.json").write_text(json.dumps(older, indent=1) + "\n")
    _, *reasons = explain(ran, expand(["method=cw_po", "seed=0"]))
    assert reasons == [f"sft ({key}): version of the stage 0 -> {old['version']} (nearest: sft/f)"]


def test_the_command_names_damage_and_ends_with_1(store):
    (store.folder("sft", "s") / "out.txt").unlink()
    done = script("store", "action=verify", f"store={store.root}", cwd=store.root)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.splitlines()[0].startswith("7 stages, 7 files, ")
    assert f"{store.folder('sft', 's')}/out.txt is damaged: 1 bytes were written, it is missing" in done.stdout
    assert done.stderr.startswith(
        "error: 1 files are damaged; python scripts/store.py action=repair deletes their stages"
    )
    assert not [path for path in store.root.iterdir() if path.name in ("outputs", "multirun", ".hydra")]
