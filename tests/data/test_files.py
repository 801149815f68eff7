"""Every kind of file gives the same rows; a file that cannot be read gets one message that names the place."""

import csv
import gzip
import json

import pandas as pd
import pytest

from cwpo.data import files
from cwpo.data.files import records
from cwpo.errors import InputError

ROWS = [
    {"prompt": 'a "quoted", text\nof two lines; é', "response_a": "x", "label": "a"},
    {"prompt": "p2", "response_a": "x|y\tz", "label": None},
]


def rows(path, *args, **kwargs):
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for _, row in records(str(path), *args, **kwargs)]


def save_csv(frame, path, sep=",", encoding="utf-8"):
    sep = "\t" if ".tsv" in path.name else sep
    frame.to_csv(path, index=False, sep=sep, quoting=csv.QUOTE_MINIMAL, encoding=encoding)


def save_parquet_gz(frame, path):
    plain = path.with_name("plain.parquet")
    frame.to_parquet(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


SAVE = {
    "t.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "t.jsonl.gz": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "t.json": lambda frame, path: frame.to_json(path, orient="records"),
    "pretty.json": lambda frame, path: frame.to_json(path, orient="records", indent=2, force_ascii=False),
    "t.json.gz": lambda frame, path: frame.to_json(path, orient="records"),
    "t.csv": save_csv,
    "semicolons.csv": lambda frame, path: save_csv(frame, path, sep=";"),
    "excel.csv": lambda frame, path: save_csv(frame, path, sep=";", encoding="cp1252"),
    "bom.csv": lambda frame, path: save_csv(frame, path, encoding="utf-8-sig"),
    "unicode.tsv": lambda frame, path: save_csv(frame, path, encoding="utf-16"),
    "t.csv.gz": save_csv,
    "t.tsv": save_csv,
    "t.parquet": lambda frame, path: frame.to_parquet(path),
    "t.parquet.gz": save_parquet_gz,
}


@pytest.mark.parametrize("name", SAVE)
def test_every_kind_of_file_gives_the_same_rows(name, tmp_path):
    SAVE[name](pd.DataFrame(ROWS), tmp_path / name)
    assert rows(tmp_path / name) == ROWS


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_array_is_read_in_parts_of_any_size(size, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", size)
    many = [{"prompt": 'é\n[]{},\\"' * i, "n": [i, {"x": None}]} for i in range(9)]
    (tmp_path / "t.json").write_text(json.dumps(many, indent=size % 3), encoding="utf-8")
    assert [row for _, row in records(str(tmp_path / "t.json"))] == many
    (tmp_path / "t.json").write_text(" [ ]\n")
    assert list(records(str(tmp_path / "t.json"))) == []


@pytest.mark.parametrize("split", [None, "train"])
def test_a_datasets_folder(split, tmp_path):
    import datasets

    data = datasets.Dataset.from_list(ROWS).with_format("pandas")  # a format is saved too
    whole = data if split is None else datasets.DatasetDict({"train": data, "test": data.select([0])})
    whole.save_to_disk(tmp_path / "saved")
    assert rows(tmp_path / "saved", split) == ROWS
    if split is not None:
        assert rows(tmp_path / "saved", "train+test") == [*ROWS, ROWS[0]]
        with pytest.raises(InputError, match="has the splits train, test; choose with split="):
            rows(tmp_path / "saved")
        with pytest.raises(InputError, match="has no split dev; it has train, test"):
            rows(tmp_path / "saved", "dev")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.jsonl", '{"prompt": "p"\n', "line 1 is not JSON"),
        ("t.json", '{\n"prompt": "p"\n}\n', "one object a line, or one array of objects is needed"),
        ("t.jsonl", '{"prompt": "p"}\n\n[1]\n', "line 3 is a list; one object a line"),
        ("t.jsonl", '{"n": ' + "9" * 5000 + "}", "line 1 cannot be read"),
        ("t.jsonl", '{"n": ' + "[" * 100_000, "line 1 is nested too deeply"),
        ("t.json", "[" * 100_000, "element 1 is nested too deeply"),
        ("t.json", '[{}, "x"]', "element 2 is text; an array of objects is needed"),
        ("t.json", "[{}, {]", "element 2 is not JSON"),
        ("t.json", "[{} {}]", "element 2 does not follow a comma"),
        ("t.json", "[{}, {}", "ends inside its array, after 2 elements"),
        ("t.json", "[{}] x", "goes on after its array of 1 elements"),
        ("t.csv", "prompt,response_a\np,x\np,x,y,z\n", "row 2 (it ends in line 3) has 2 fields more"),
        ("t.csv", "prompt,label,label\np,a,b\n", "has several columns with the name label; give each one its own name"),
        (
            "t.csv",
            'prompt,response_a\np,x\np,"y\n',
            "row 2 (up to line 3) cannot be read as csv: unexpected end of data",
        ),
        ("t.csv", 'prompt,response_a\np,x\nq,"y" z\n', "row 2 (up to line 3) cannot be read as csv: ',' expected"),
        ("t.csv", b"prompt,response_a\n\x81,x\n", "cannot be read as UTF-8 text: 'charmap' codec"),
        ("t.jsonl", b'{"prompt": "\xe9"}', "cannot be read as UTF-8 text"),
        ("t.parquet", "nonsense", "cannot be read as parquet"),
        ("t.jsonl.gz", "nonsense", "cannot be read as jsonl: Not a gzipped file"),
        ("t.jsonl.gz", b"\x1f\x8b\x08\x00cut off", "cannot be read as jsonl"),
        ("t.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff", "cannot be read as jsonl"),
        ("t.csv.gz", "nonsense", "cannot be read as csv: Not a gzipped file"),
        ("t.txt", "nonsense", "a table's name must end in .jsonl, .json, .csv, .tsv, .parquet"),
    ],
)
def test_unreadable_tables(name, text, said, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as refused:
        list(records(str(tmp_path / name)))
    (line,) = refused.value.problems
    assert str(tmp_path / name) in line and said in line and len(line) < 500


def test_a_small_array_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LINE", 1000)
    monkeypatch.setattr(files, "CHUNK", 100)
    (tmp_path / "t.json").write_text('[{"prompt": "' + "x" * 5000 + '"}]')
    with pytest.raises(InputError, match="element 1 has more than 1,000 characters"):
        list(records(str(tmp_path / "t.json")))


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.csv.gz", "./missing"])
def test_what_does_not_exist(name):
    with pytest.raises(InputError, match="^" + name.replace(".", r"\.") + " does not exist$"):
        list(records(name))


def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n" + json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n")
    assert [number for number, _ in records(str(tmp_path / "t.jsonl"))] == [2, 4]
