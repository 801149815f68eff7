"""Whatever a file of pairs holds: every row is kept or counted, or one message names the file; never another error."""

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.test_sources import Words, source, write
from hypothesis import strategies as st
from properties import ANYTHING, HALVES, TEXT, WORDS, holds, tried

from cwpo.data import files
from cwpo.data.files import SUFFIXES, lines, open_text, records
from cwpo.data.labels import vote_share
from cwpo.data.own import convert
from cwpo.data.own_texts import pair_texts
from cwpo.data.sources import drop_unusable, pair_id, read_pairs, token_counts
from cwpo.errors import InputError, LeftOut, WrongRow

NAMES = ("prompt", "chosen", "rejected", "response_a", "response_b", "label", "votes", "domain")
LABELS = st.sampled_from(["a", "b", "tie", 0, 1, "A ", True, 2, None, "", "c", 0.0, float("nan")])
VOTES = st.lists(LABELS, max_size=4) | st.sampled_from(["a|b", "a,a,b", "", "tie"]) | st.none()
ROW = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=8)
LIKELY = st.fixed_dictionaries(
    {"prompt": TEXT, "response_a": TEXT, "response_b": TEXT},
    optional={"label": LABELS, "votes": VOTES, "domain": TEXT | st.none(), "chosen": ANYTHING},
)
ORDERED = st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT})
ROWS = st.lists(LIKELY, max_size=12) | st.lists(ORDERED, max_size=12) | st.lists(LIKELY | ORDERED | ROW, max_size=12)


def in_file(rows: list, name: str = "p.jsonl") -> tuple[tempfile.TemporaryDirectory, Path]:
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / name
    text = "".join(json.dumps(row) + "\n" for row in rows)  # halves of surrogate pairs as \ud83d
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return folder, file


def is_text(text: object) -> bool:
    return isinstance(text, str) and text.encode().decode() == text


@holds(ROWS, st.sampled_from(["p.jsonl", "p.jsonl.gz"]), st.integers(0, 2))
def test_every_row_of_json_lines_is_a_pair_or_a_drop_or_one_message(rows, name, seed):
    folder, file = in_file(rows, name)
    with folder:
        read, refused = tried(read_pairs, source(file), seed)
    if refused:
        assert all(str(file) in problem for problem in refused.problems)
        return
    frame, drops = read
    assert drops.pop("read") == len(rows) == len(frame) + sum(drops.values())
    assert all(is_text(text) for side in ("prompt", "response_a", "response_b") for text in frame[side])
    assert set(frame["human_label"]) <= {"a", "b"}


@holds(ROWS, st.sampled_from(["drop", "soft"]))
def test_every_own_row_is_a_pair_or_a_drop_or_a_problem_by_its_number(rows, ties):
    folder, file = in_file(rows)
    with folder:
        out = Path(folder.name) / "pairs.parquet"
        done, refused = tried(convert, str(file), out, ties=ties)
        if refused:
            assert not out.exists()
            assert all(str(file) in problem for problem in refused.problems)
            return
        frame = pd.read_parquet(out)
    assert done.read == len(rows) == done.kept + sum(map(len, done.dropped.values()))
    assert done.kept == len(frame) > 0 and not done.wrong
    assert frame["pair_id"].is_unique
    assert (frame["response_a"] != frame["response_b"]).all()
    assert all(is_text(text) and text.strip() for side in ("response_a", "response_b") for text in frame[side])
    labelled = frame["n_votes"] > 0
    assert done.labeled == labelled.sum()
    assert frame.loc[~labelled, "target"].isna().all() and frame.loc[labelled, "share"].between(0, 1).all()
    allowed = frame.loc[labelled, "target"]
    assert allowed.isin([0.0, 1.0]).all() if ties == "drop" else (allowed == frame.loc[labelled, "share"]).all()


def voted(label, votes) -> tuple[float, int] | str:
    """(share, number of votes), or the problem."""
    try:
        return vote_share(label, votes)
    except WrongRow as wrong:
        return wrong.problem


@holds(LABELS | ANYTHING, VOTES | ANYTHING)
def test_a_share_of_votes_turns_with_the_sides(label, votes):
    cast = voted(label, votes)
    assert isinstance(cast, str) or (0 <= cast[0] <= 1 if cast[1] else np.isnan(cast[0]))
    turned = {"a": "b", "b": "a", "response_a": "response_b", "response_b": "response_a", "0": "1", "1": "0"}

    def other(vote):
        if isinstance(vote, str):
            return turned.get(vote.strip().lower(), vote)
        return 1 - vote if not isinstance(vote, bool) and isinstance(vote, int | float) and vote in (0, 1) else vote

    if isinstance(votes, str):
        votes = [vote for vote in votes.replace("|", ",").split(",") if vote.strip()]
    back = voted(other(label), [other(vote) for vote in votes] if isinstance(votes, list) else votes)
    if isinstance(cast, str):
        assert back == cast
    else:
        assert back == (pytest.approx(1 - cast[0], nan_ok=True), cast[1])


@holds(ANYTHING, ANYTHING, ANYTHING)
def test_texts_come_out_as_texts_or_not_at_all(prompt, first, second):
    try:
        *texts, _ = pair_texts(prompt, first, second)
    except (LeftOut, WrongRow):
        return
    assert all(is_text(text) for text in texts) and texts[1].strip() and texts[2].strip()


@holds(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=15))
def test_repeats_and_identical_responses_are_counted_once_each(triples):
    columns = ["prompt", "response_a", "response_b"]
    twice = pd.DataFrame([*triples, *((p, b, a) for p, a, b in triples)], columns=columns)  # sides do not matter
    kept, drops = drop_unusable(twice.assign(human_label="a", domain="d"))
    wanted = {pair_id(p, a, b) for p, a, b in triples if a.strip() and b.strip() and a != b}
    assert set(kept["pair_id"]) == wanted and len(kept) == len(wanted)
    assert len(twice) == len(kept) + sum(drops.values())


@holds(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=15), st.integers(1, 20))
def test_what_is_longer_than_the_context_is_marked_once(triples, limit):
    frame = pd.DataFrame(triples, columns=["prompt", "response_a", "response_b"])
    longest, unfit = token_counts(frame, [Words()], limit)
    total = sum(mask.astype(int) for mask in unfit.values())
    assert len(longest) == len(frame) and (total <= 1).all()
    for (prompt, a, b), size, bad in zip(triples, longest, total, strict=True):
        words = [len(text.split()) for text in (prompt, a, b)]
        assert size == words[0] + max(words[1:]) + 1  # EOS
        assert bool(bad) == (not words[0] or words[0] >= limit or size > limit)


@holds(
    st.binary(max_size=80) | TEXT.map(str.encode) | ROWS.map(lambda rows: json.dumps(rows).encode()),
    st.sampled_from([*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES)]),
    st.booleans(),
    st.integers(0, 60),
)
def test_bytes_that_are_no_table_are_one_message(content, suffix, packed, cut):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"p{suffix}"
        file.write_bytes(gzip.compress(content)[: cut or None] if packed else content)
        read, refused = tried(lambda: list(records(str(file))))
        if refused:
            assert str(file) in str(refused)
        else:
            assert all(number >= 1 and isinstance(record, dict) for number, record in read)


@holds(ROWS, st.integers(0, 400))
def test_a_file_cut_short_is_one_message_or_fewer_rows(rows, cut):
    folder, file = in_file(rows)
    with folder:
        file.write_bytes(file.read_bytes()[:cut])
        read, refused = tried(lambda: [dict(record) for _, record in records(str(file))])
        assert f"{file} line " in str(refused) if refused else len(read) <= len(rows)


@holds(st.lists(st.sampled_from([0, 1, 7, 30, 31]), max_size=10), st.booleans())
def test_limits_of_lines_and_of_what_a_file_expands_to(sizes, packed):
    """With small limits: what is read is exactly what they allow, and nothing is read beyond."""
    text = "".join("x" * size + "\n" for size in sizes)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / ("p.jsonl.gz" if packed else "p.jsonl")
        file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        for name, value in {"LINE": 31, "EXPANDED": 100, "RATIO": 0}.items():
            patch.setattr(files, name, value)
        fits = all(size <= 30 for size in sizes) and (not packed or len(text) <= 100)
        read, refused = tried(lambda: [line for _, line in lines(open_text(file), file)])
        if refused:
            assert not fits and str(file) in str(refused)
        else:
            assert fits and "".join(read) == text


@holds(
    st.lists(
        st.fixed_dictionaries({"prompt": TEXT | HALVES, "response_a": st.none() | TEXT, "label": st.integers(0, 3)}),
        max_size=6,
    )
)
def test_columns_of_parquet_of_the_wrong_type_are_one_message(rows):
    rows = [{**row, "response_b": row["label"]} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "p.parquet"
        try:
            pq.write_table(pa.Table.from_pylist(rows), file)
        except UnicodeEncodeError:  # half a surrogate pair: Parquet cannot hold it, so no file does
            return
        with pytest.raises(InputError) as refused:
            convert(str(file), Path(folder) / "out.parquet")
        assert all(str(file) in problem for problem in refused.value.problems)


def test_a_line_of_ten_megabytes_is_read(tmp_path):
    row = {"prompt": "p" * 10_000_000, "chosen": "c", "rejected": "r"}
    frame, drops = read_pairs(source(write(tmp_path / "p.jsonl", [row])), 0)
    assert drops["read"] == 1 and len(frame["prompt"][0]) == 10_000_000
    assert convert(str(tmp_path / "p.jsonl"), tmp_path / "out.parquet").kept == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_a_small_file_cannot_fill_the_memory(tmp_path, monkeypatch, suffix):
    """300 KB that expand to 300 MB; read in full it would be more than the limit of 64 MiB for a line."""
    import resource

    file = tmp_path / f"p{suffix}.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(300):
            packed.write(b"0" * 2**20)
    assert file.stat().st_size < 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"has more than 67,108,864 characters|expands to more than"):
        convert(str(file), tmp_path / "out.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KiB
