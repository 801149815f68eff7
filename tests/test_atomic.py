"""A file is complete or not there, and nothing is left beside it."""

import errno
import os

import pytest

from cwpo.atomic import new_file, write_text


def test_a_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "rows.csv"
    write_text(path, "old")
    with new_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["rows.csv"]


def fail_after_writing(partial):
    partial.write_text("half")
    raise ValueError("half")


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "rows.csv"
    write_text(path, "old")
    with pytest.raises(ValueError, match="half"), new_file(path) as partial:
        fail_after_writing(partial)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["rows.csv"]


def test_the_remains_of_a_killed_writer_are_overwritten(tmp_path):
    path = tmp_path / "rows.csv"
    (tmp_path / ".rows.csv.partial").write_text("remains that are longer than the file")
    write_text(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["rows.csv"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(OSError) as full, new_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path) and full.value.errno == errno.ENOSPC


def test_writers_at_the_same_time_do_not_meet(tmp_path):
    path = tmp_path / "verdict.json"
    with new_file(path, "1") as first, new_file(path, "2") as second:
        first.write_text("one")
        second.write_text("two")
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["verdict.json"]
