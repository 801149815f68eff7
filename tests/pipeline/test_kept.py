"""Arms kept beside the store: the same as expanded ones, and forgotten when anything they come from changes."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from cwpo.pipeline import graph, kept
from cwpo.pipeline.arms import expand
from cwpo.pipeline.kept import keep_arms, kept_arms
from cwpo.store.store import Store

COMMAND = [["table1"], ["scale=toy"], [0, 1]]


@pytest.fixture(scope="module")
def arms():
    return {"mine": expand(["method=human,cw_po", "seed=0,1"]), "labels": expand(["until=assess"])}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """One in which every stage is finished."""
    monkeypatch.setattr(graph.Node, "done", lambda *_: True)
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store")


def file_of(store):
    (file,) = (store.root / kept.FOLDER).iterdir()
    return file


def test_they_are_the_arms_that_were_expanded(arms, store):
    keep_arms(store, COMMAND, arms)
    told = kept_arms(store, COMMAND)
    assert list(told) == ["mine", "labels"]
    for name, group in arms.items():
        for ours, theirs in zip(told[name], group, strict=True):
            assert ours.key == theirs.key
            assert [(node.name, node.key) for node in ours.run] == [(n.name, n.key) for n in theirs.run]
            assert {n: node.key for n, node in ours.nodes.items()} == {
                n: node.key for n, node in theirs.nodes.items() if node.key in {r.key for r in theirs.run}
            }
            assert json.dumps(ours.cfg, default=vars) == json.dumps(
                OmegaConf.to_container(theirs.cfg, resolve=True)
            )


def test_they_cannot_be_run(arms, store):
    keep_arms(store, COMMAND, arms)
    node = kept_arms(store, COMMAND)["mine"][0].run[0]
    with pytest.raises(RuntimeError, match="cannot be run"):
        node.stage.run(None)


def test_an_unfinished_stage_asks_for_the_whole_way(arms, store, monkeypatch):
    keep_arms(store, COMMAND, arms)
    last = arms["mine"][-1].key
    monkeypatch.setattr(graph.Node, "done", lambda node, _: node.key != last)
    assert kept_arms(store, COMMAND) is None


def test_another_command_has_other_arms(arms, store):
    keep_arms(store, COMMAND, arms)
    assert kept_arms(store, [["table1"], ["scale=toy"], [0, 2]]) is None


@pytest.mark.parametrize("change", ["a value", "a new file"])
def test_another_configuration_has_other_arms(change, arms, store, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "CONF", shutil.copytree(kept.CONF, tmp_path / "conf"))
    keep_arms(store, COMMAND, arms)
    assert kept_arms(store, COMMAND) is not None
    file = tmp_path / "conf/scale" / ("toy.yaml" if change == "a value" else "mine.yaml")
    file.write_text(f"{file.read_text() if file.is_file() else ''}\nseed: 1\n")
    assert kept_arms(store, COMMAND) is None
    keep_arms(store, COMMAND, arms)
    assert kept_arms(store, COMMAND) is not None and file_of(store).is_file()  # in place of the old ones


def test_a_file_of_conf_that_moved_counts(arms, store, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "CONF", shutil.copytree(kept.CONF, tmp_path / "conf"))
    keep_arms(store, COMMAND, arms)
    (tmp_path / "conf/weighting").rename(tmp_path / "conf/weightings")
    assert kept_arms(store, COMMAND) is None


def test_a_disk_that_takes_nothing_stops_nothing(arms, store):
    (store.root / kept.FOLDER).touch()  # no folder can be made there
    keep_arms(store, COMMAND, arms)
    assert kept_arms(store, COMMAND) is None


def test_other_code_has_other_arms(arms, store, tmp_path, monkeypatch):
    keep_arms(store, COMMAND, arms)
    (tmp_path / "new.py").touch()
    code = kept.code()
    monkeypatch.setattr(kept, "code", lambda: [*code, tmp_path / "new.py"])
    assert kept_arms(store, COMMAND) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"nodes"', '"other"'),
        lambda text: json.dumps(json.loads(text) | {"nodes": json.loads(text)["nodes"][:3]}),
    ],
    ids=["cut", "empty", "no object", "no nodes", "few nodes"],
)
def test_a_damaged_file_is_taken_for_none(damage, arms, store):
    keep_arms(store, COMMAND, arms)
    file = file_of(store)
    file.write_text(damage(file.read_text()))
    assert kept_arms(store, COMMAND) is None


def test_keys_follow_from_what_is_kept(arms, store):
    keep_arms(store, COMMAND, arms)
    file = file_of(store)
    file.write_text(file.read_text().replace('"human_fraction": 0.3', '"human_fraction": 0.4'))
    key = kept_arms(store, COMMAND)["mine"][0].key
    assert key != arms["mine"][0].key


def test_arms_of_local_files_are_not_kept(store, tiny_checkpoint):
    local = expand([f"pair.strong={tiny_checkpoint}", "method=human"])
    keep_arms(store, COMMAND, {"mine": local})
    assert not (store.root / kept.FOLDER).exists()


def test_a_name_that_became_a_local_folder_is_looked_at_again(arms, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep_arms(store, COMMAND, arms)
    name = arms["mine"][0].nodes["prepare"].config["data"]["path"]
    assert kept_arms(store, COMMAND) is not None
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "pairs.jsonl").write_text("{}")
    assert kept_arms(store, COMMAND) is None
