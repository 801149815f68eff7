"""Progress of long work where there is no terminal."""

from cwpo.own import bar as module
from cwpo.own.bar import bar


def test_lines_with_the_time_left_every_ten_seconds(monkeypatch):
    clock = iter([0.0, 4.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    lines: list[str] = []
    with bar("training", lines.append) as progress:
        for done in (10, 25, 30, 44):
            progress(done, 100)
    assert lines == ["training", "training: 25 of 100, about 33 s left", "training: 44 of 100, about 28 s left"]
