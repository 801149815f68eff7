"""The folder of the results, and the files from which a stopped run continues."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from cwpo.errors import InputError
from cwpo.own.checks import ANNOTATED, _occupied
from cwpo.own.crossfit import _keep
from cwpo.own.folder import replace_folder, workplace
from cwpo.own.preferences import first_annotated


def test_colleagues_can_read_the_weights(tmp_path):
    (tmp_path / "new").mkdir()
    save_file({"weight": torch.zeros(1)}, tmp_path / "new" / "model.safetensors")
    replace_folder(tmp_path / "new", tmp_path / "out")
    mode = (tmp_path / "out" / "model.safetensors").stat().st_mode
    assert mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o666


@pytest.mark.parametrize("out", ["/proc/x", "link/out"])
def test_a_folder_that_cannot_be_created_is_named(tmp_path, out):
    (tmp_path / "link").symlink_to(tmp_path / "disk")  # of a disk that is not mounted
    made = workplace(tmp_path / out, OmegaConf.create({}), ())
    with pytest.raises(InputError, match=f"^out={tmp_path / out} cannot be created: .*; name another$"), made:
        pass


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (".", "is the folder in which the command runs"),
        ("..", "is the folder in which the command runs"),
        ("file/x", "is a file, or lies in one"),
        ("/dev/null/x", "is a file, or lies in one"),
        ("x" * 241, "has a name of more than 240 bytes"),
        ("full", "holds other files"),
        ("full/new", None),
        ("run[1]", None),
    ],
)
def test_a_folder_that_cannot_take_the_results_is_refused(tmp_path, monkeypatch, out, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").touch()
    problems = [problem.text for problem in _occupied(SimpleNamespace(out=out), "report.json", ())]
    assert [why in problem for problem in problems] == [True] * (why is not None)


def test_a_mounted_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path)
    (problem,) = _occupied(SimpleNamespace(out=str(tmp_path)), "report.json", ())
    assert problem.text.endswith("is a mount point, which cannot be replaced by a folder; name a new folder in it")
    assert not list(_occupied(SimpleNamespace(out=f"{tmp_path}/new"), "report.json", ()))


@pytest.mark.parametrize(
    ("key", "name"), [("data", "old/pairs.jsonl"), ("annotator.path", "link/annotator"), ("model", "old")]
)
def test_a_result_does_not_replace_its_own_inputs(tmp_path, monkeypatch, key, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old" / "annotator").mkdir(parents=True)
    (tmp_path / "link").symlink_to("old")
    for file in ("report.json", "pairs.jsonl"):
        (tmp_path / "old" / file).touch()
    cfg = OmegaConf.create({"out": "old", "data": "pairs.jsonl", "model": None, "annotator": {"path": None}})
    assert not list(_occupied(cfg, "report.json", ANNOTATED))
    OmegaConf.update(cfg, key, name)
    (problem,) = _occupied(cfg, "report.json", ANNOTATED)
    assert problem.text.startswith(f"out=old holds {key}={name}, and the new result would replace")


def test_a_link_to_a_folder_stays_one_and_names_with_brackets_leave_nothing(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "link[1]").symlink_to(tmp_path / "large")
    for text in ("first", "second"):
        out = (tmp_path / "link[1]").resolve()
        with workplace(out, {"out": str(out)}, ()) as work:
            (work / "out").mkdir()
            (work / "out" / "text").write_text(text)
    assert (tmp_path / "link[1]").is_symlink() and (tmp_path / "large" / "text").read_text() == "second"
    with workplace(tmp_path / "run[1]", {"out": "run[1]"}, ()) as work:
        (work / "out").mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {"large", "link[1]", "run[1]"}


def test_a_table_cut_off_while_it_was_written_is_not_there(tmp_path, monkeypatch):
    def cut(self, path, index):
        Path(path).write_bytes(b"PAR1")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_parquet", cut)
    annotator = SimpleNamespace(gaps=lambda pairs: np.ones((1, len(pairs))))
    test = pd.DataFrame({"pair_id": ["a"], "target": [1.0]})
    with pytest.raises(KeyboardInterrupt):
        _keep(annotator, test, tmp_path / "fold0-1.parquet", 1.0, 5)
    assert not list(tmp_path.iterdir())


def test_annotated_pairs_are_found_behind_labelled_ones(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r", "label_source": "human"} for i in range(50)]
    rows += [row | {"label_source": "annotator", "chosen": f"c{i}"} for i, row in enumerate(rows[:5])]
    pd.DataFrame(rows).to_parquet(tmp_path / "preferences.parquet")
    assert first_annotated(tmp_path / "preferences.parquet", 3)["chosen"].tolist() == ["c0", "c1", "c2"]
