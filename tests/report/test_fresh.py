"""A report is written again when its inputs, the code, a template or one of its own files has changed."""

import shutil

import pytest

from cwpo.report import fresh


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report of one input and one file, with its own copy of the templates and one source file."""
    shutil.copytree(fresh.TEMPLATES, tmp_path / "templates")
    names = ("runs.csv", "table.md", "source.py")
    inputs, written, source = (tmp_path / name for name in names)
    for path in (inputs, written, source):
        path.write_text("before")
    monkeypatch.setattr(fresh, "TEMPLATES", tmp_path / "templates")
    monkeypatch.setattr(fresh, "_code", lambda: [source])
    fresh.remember(tmp_path, fresh.digest_of([inputs]), [written])
    return tmp_path


def test_a_report_without_changes_is_up_to_date(report):
    assert fresh.up_to_date(report, fresh.digest_of([report / "runs.csv"])) == [report / "table.md"]


@pytest.mark.parametrize("name", ["runs.csv", "table.md", "source.py", "templates/style.css", fresh.STAMP])
def test_any_change_makes_it_out_of_date(report, name):
    (report / name).write_text("after")
    assert fresh.up_to_date(report, fresh.digest_of([report / "runs.csv"])) is None
