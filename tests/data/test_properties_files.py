"""Result files with any texts and numbers in them: what is written is read, in any order; damage is named, not read."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from properties import FINITE, ODD, holds

from cwpo.plain import visible
from cwpo.results import (
    REWARD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    ResultsError,
    RunRewards,
    read_rows,
    replace_rows,
    write_rows,
)

TEXT = st.text(max_size=8) | st.lists(st.sampled_from(ODD), max_size=4).map("".join)
KEY = st.text("0123456789abcdef", min_size=16, max_size=16)
SAMPLE = st.fixed_dictionaries(
    {
        "run_key": KEY,
        "prompt_id": KEY,
        "data": st.just("harmless"),
        "strong": st.just("world/opt-32x2"),
        "method": st.just("cw_po"),
        "seed": st.integers(0, 2**31 - 1),
        **dict.fromkeys(("prompt", "response_sft", "response"), TEXT),
        **dict.fromkeys(("reward_sft", "reward"), FINITE),
    }
)
SAMPLES = st.lists(SAMPLE, min_size=1, max_size=6, unique_by=lambda row: (row["run_key"], row["prompt_id"]))
RUN = st.fixed_dictionaries(
    {
        "experiment": st.sampled_from(["table1", "figure2", "mine"]),
        "run_key": KEY,
        "seed": st.integers(0, 9),
        "gra": st.none() | st.floats(0, 1),
        "git_commit": st.sampled_from(["0123456", "1e10000", "abcdef0"]),
    }
)
RUNS = st.lists(RUN, max_size=6, unique_by=lambda row: (row["experiment"], row["run_key"]))


def runs(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(RUN_COLUMNS) | {"scale": "toy"} | row for row in rows], columns=RUN_COLUMNS)


def attempt(path: Path, columns: list[str]) -> pd.DataFrame | ResultsError:
    try:
        return read_rows(path, columns)
    except ResultsError as error:
        return error


@holds(SAMPLES, st.sampled_from(["samples.csv", "samples.csv.gz"]))
def test_texts_of_models_come_back_with_control_characters_made_visible(rows, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy" / name
        write_rows(path, pd.DataFrame(rows), SAMPLE_COLUMNS)
        back = read_rows(path, SAMPLE_COLUMNS).set_index(["run_key", "prompt_id"])
        content = path.read_bytes()
        write_rows(path, pd.DataFrame(rows[::-1]), SAMPLE_COLUMNS)
        assert path.read_bytes() == content  # equal rows, equal bytes
    assert len(back) == len(rows)
    for row in rows:
        read = back.loc[(row["run_key"], row["prompt_id"])]
        for column in ("prompt", "response_sft", "response"):
            assert ("" if pd.isna(read[column]) else read[column]) == visible(row[column])
        assert read["reward"] == round(row["reward"], 6)


@holds(RUNS, RUNS)
def test_rows_of_an_experiment_give_way_and_no_others(old, new):
    new = [row | {"experiment": "table1"} for row in new]
    new = list({row["run_key"]: row for row in new}.values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy" / "runs.csv"
        write_rows(path, runs(old), RUN_COLUMNS)
        replace_rows(path, runs(new), RUN_COLUMNS, experiment="table1")
        read = read_rows(path, RUN_COLUMNS)
    kept = {(row["experiment"], row["run_key"]) for row in old if row["experiment"] != "table1"}
    assert set(zip(read["experiment"], read["run_key"], strict=True)) == kept | {
        ("table1", row["run_key"]) for row in new
    }
    assert len(read) == len(kept) + len(new)


@holds(st.lists(RUN, min_size=1, max_size=5, unique_by=lambda row: row["run_key"]), st.data())
def test_a_damaged_result_file_is_named_or_still_has_its_columns(rows, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy" / data.draw(st.sampled_from(["runs.csv", "runs.csv.gz"]))
        write_rows(path, runs(rows), RUN_COLUMNS)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            del content[at:]
        path.write_bytes(bytes(content))
        read = attempt(path, RUN_COLUMNS)
        if isinstance(read, ResultsError):
            assert str(path) in str(read)
        else:
            assert list(read.columns) == RUN_COLUMNS and len(read) <= len(rows) + 1


@holds(st.binary(max_size=200), st.sampled_from(["runs.csv", "runs.csv.gz"]))
def test_any_bytes_are_no_result_file(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        read = attempt(path, RUN_COLUMNS)
        assert isinstance(read, ResultsError) and str(path) in str(read)


@holds(st.dictionaries(KEY, st.tuples(FINITE, FINITE), min_size=1, max_size=12), st.randoms())
def test_rewards_of_a_run_survive_in_any_order(rewards, random):
    ids = list(rewards)
    first = RunRewards.of(ids, *zip(*rewards.values(), strict=True)).row("k")
    random.shuffle(ids)
    assert RunRewards.of(ids, *zip(*(rewards[name] for name in ids), strict=True)).row("k") == first
    back = RunRewards.parse(first)
    assert list(first) == REWARD_COLUMNS
    for at, name in enumerate(sorted(ids)):
        assert np.isclose(back.reward[at], rewards[name][0], rtol=1e-5, atol=0)
        assert np.isclose(back.reward_sft[at], rewards[name][1], rtol=1e-5, atol=0)
