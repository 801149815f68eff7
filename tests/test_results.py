"""The result files: equal rows give equal bytes, writers lose nothing, and what cannot be trusted is refused."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

import cwpo.atomic
from cwpo.results import (
    DETAIL_COLUMNS,
    EMBEDDING_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    ResultsError,
    RunRewards,
    give_way,
    prune,
    read_rows,
    replace_rows,
    rewards_file,
    write_rows,
)


def runs(*keys: str, experiment: str = "table1", **given) -> pd.DataFrame:
    rows = [
        dict.fromkeys(RUN_COLUMNS)
        | {"experiment": experiment, "scale": "toy", "data": "harmless", "seed": i, "run_key": key}
        | {"gra": 2 / 3, "git_commit": "0123456"}
        | given
        for i, key in enumerate(keys)
    ]
    return pd.DataFrame(rows)


def rewards(*keys: str) -> pd.DataFrame:
    run = RunRewards.of(["p1", "p0"], [1.5, 0.5], [0.25, 0.25])
    return pd.DataFrame([run.row(key) for key in keys])


@pytest.mark.parametrize("kl", [None, [2.0, -0.125]])
def test_rewards_come_back_in_the_order_of_prompts_with_kl_where_it_was_measured(folder, kl):
    row = RunRewards.of(["p1", "p0"], [1.5, 0.5], [0.25, 0.75], kl).row("a")
    write_rows(folder / "rewards.csv.gz", pd.DataFrame([row]), REWARD_COLUMNS)
    (read,) = read_rows(folder / "rewards.csv.gz", REWARD_COLUMNS).to_dict("records")
    run = RunRewards.parse(read)
    assert (run.reward.tolist(), run.reward_sft.tolist()) == ([0.5, 1.5], [0.75, 0.25])
    assert run.kl is None if kl is None else run.kl.tolist() == [-0.125, 2.0]


def details(*keys: str, **given) -> pd.DataFrame:
    return pd.DataFrame(
        [dict.fromkeys(DETAIL_COLUMNS) | {"experiment": "table1", "run_key": key} | given for key in keys]
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "toy"


def test_a_file_is_sorted_rounded_and_blank_where_nothing_applies(folder):
    write_rows(folder / "runs.csv", runs("b", "a").iloc[::-1], RUN_COLUMNS)
    data = (folder / "runs.csv").read_bytes()
    lines = data.decode().splitlines()
    assert lines[0].split(",") == RUN_COLUMNS
    assert lines[1] == "table1,toy,harmless,,,,,,,,,0,0.666667,,,,,,,,,,,b,0123456"
    assert b"\r" not in data and len(lines) == 3


def test_keys_and_commits_of_digits_stay_text(folder):
    write_rows(folder / "runs.csv", runs("0012", "1e5"), RUN_COLUMNS)
    frame = read_rows(folder / "runs.csv", RUN_COLUMNS)
    assert list(frame["run_key"]) == ["0012", "1e5"]
    assert set(frame["git_commit"]) == {"0123456"}


def test_small_learning_rates_are_not_rounded(folder):
    write_rows(folder / "details.csv", details("a", learning_rate=2.5e-7, mean_weight=1 / 3), DETAIL_COLUMNS)
    row = read_rows(folder / "details.csv", DETAIL_COLUMNS).iloc[0]
    assert (row["learning_rate"], row["mean_weight"]) == (2.5e-7, 0.333333)


def test_gzip_bytes_do_not_depend_on_time_name_or_order(folder, monkeypatch):
    path = folder / "rewards.csv.gz"
    write_rows(path, rewards("a", "b"), REWARD_COLUMNS)
    first = path.read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)
    write_rows(path, rewards("b", "a").sample(frac=1, random_state=1), REWARD_COLUMNS)
    assert path.read_bytes() == first
    assert (
        gzip.decompress(first)
        .decode()
        .startswith(f"run_key,prompts,rewards,rewards_sft,kl\na,{rewards('a').prompts[0]},0.5 1.5,0.25 0.25,\n")
    )


def test_a_row_entered_again_gives_way_to_the_new_one(folder):
    path = folder / "runs.csv"
    replace_rows(path, runs("a", "b"), RUN_COLUMNS)
    replace_rows(path, runs("a", gra=0.75), RUN_COLUMNS)
    assert read_rows(path, RUN_COLUMNS).set_index("run_key")["gra"].to_dict() == {"a": 0.75, "b": 0.666667}


def test_points_give_way_to_those_of_the_same_source(folder):
    def points(source: str, *ids: str, seed: int = 0) -> pd.DataFrame:
        common = {"data": "tldr", "strong": "s", "seed": seed, "source": source, "x": 0.5, "y": 1.0}
        return pd.DataFrame([common | {"pair_id": name} for name in ids])

    path = folder / "embeddings.csv"
    replace_rows(path, pd.concat([points("labeled", "a", "b"), points("online_cw_po", "c")]), EMBEDDING_COLUMNS)
    replace_rows(path, pd.concat([points("labeled", "a"), points("labeled", "d", seed=1)]), EMBEDDING_COLUMNS)
    frame = read_rows(path, EMBEDDING_COLUMNS)
    assert list(zip(frame["seed"], frame["source"], frame["pair_id"])) == [
        (0, "labeled", "a"),
        (0, "online_cw_po", "c"),
        (1, "labeled", "d"),
    ]


def test_writers_at_the_same_time_lose_nothing(folder):
    names = [f"e{i}" for i in range(12)]

    def enter(name: str) -> None:
        replace_rows(folder / "runs.csv", runs(name, experiment=name), RUN_COLUMNS, experiment=name)
        replace_rows(folder / "details.csv", details(name, experiment=name), DETAIL_COLUMNS)
        replace_rows(rewards_file(folder, "shared"), rewards(name), REWARD_COLUMNS)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, names))
    assert set(read_rows(folder / "runs.csv", RUN_COLUMNS)["run_key"]) == set(names)
    assert set(read_rows(folder / "details.csv", DETAIL_COLUMNS)["experiment"]) == set(names)
    assert set(read_rows(rewards_file(folder, "shared"), REWARD_COLUMNS)["run_key"]) == set(names)


def test_an_experiment_with_other_numbers_of_the_same_arm_gives_way(folder):
    """Another processor trains another model from the same settings; within an experiment its arms must not stand beside ours."""
    path = folder / "runs.csv"
    for name, keys in (("table3", ["k1", "k2"]), ("table4", ["k2", "k3"]), ("table5", ["k4"])):
        replace_rows(path, runs(*keys, experiment=name), RUN_COLUMNS)
    numbers = ("gra", "reward_mean")
    now = runs("k2", "k4", experiment="table4").assign(reward_mean=[1.0, 1.0])
    same = now.assign(reward_mean=read_rows(path, RUN_COLUMNS)["reward_mean"].iloc[0] + 4e-7)
    assert not give_way(path, same, RUN_COLUMNS, numbers)
    assert not give_way(path, now.iloc[1:], RUN_COLUMNS, numbers)
    assert give_way(path, now, RUN_COLUMNS, numbers)
    assert read_rows(path, RUN_COLUMNS)["experiment"].tolist() == ["table3", "table3", "table5"]
    assert not give_way(folder / "none.csv", now, RUN_COLUMNS, ("gra",))


def test_pruning_drops_what_runs_no_longer_names(folder):
    write_rows(folder / "runs.csv", runs("a"), RUN_COLUMNS)
    write_rows(folder / "details.csv", pd.concat([details("a", "b"), details("a", experiment="gone")]), DETAIL_COLUMNS)
    for name in ("table1", "gone"):
        write_rows(rewards_file(folder, name), rewards("a", "b"), REWARD_COLUMNS)
    prune(folder)
    assert set(read_rows(folder / "details.csv", DETAIL_COLUMNS)["run_key"]) == {"a"}
    assert set(read_rows(rewards_file(folder, "table1"), REWARD_COLUMNS)["run_key"]) == {"a"}
    assert not rewards_file(folder, "gone").exists()
    replace_rows(folder / "details.csv", details("b", experiment="killed"), DETAIL_COLUMNS)
    prune(folder)  # a kill left details without rewards
    assert set(read_rows(folder / "details.csv", DETAIL_COLUMNS)["experiment"]) == {"table1"}
    (folder / "details.csv").unlink()  # as the message about a damaged file advises
    prune(folder)


@pytest.mark.parametrize("experiment", ["table1", "other"])
def test_pruning_spares_rows_another_sweep_enters_meanwhile(folder, monkeypatch, experiment):
    write_rows(folder / "runs.csv", runs("a"), RUN_COLUMNS)
    write_rows(folder / "details.csv", details("a", "old"), DETAIL_COLUMNS)
    write_rows(rewards_file(folder, "table1"), rewards("a", "old"), REWARD_COLUMNS)
    reads = []

    def read_and_enter(path, columns):
        frame = read_rows(path, columns)
        if path.name == "runs.csv" and not reads:  # right after the first look at runs.csv
            reads.append(path)
            replace_rows(path, runs("new", experiment=experiment), RUN_COLUMNS)
            replace_rows(folder / "details.csv", details("new", experiment=experiment), DETAIL_COLUMNS)
            replace_rows(rewards_file(folder, experiment), rewards("new"), REWARD_COLUMNS)
        return frame

    monkeypatch.setattr(cwpo.results, "read_rows", read_and_enter)
    prune(folder)
    monkeypatch.undo()
    assert set(read_rows(folder / "details.csv", DETAIL_COLUMNS)["run_key"]) == {"a", "new"}
    assert "new" in set(read_rows(rewards_file(folder, experiment), REWARD_COLUMNS)["run_key"])
    assert "old" not in set(read_rows(rewards_file(folder, "table1"), REWARD_COLUMNS)["run_key"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns=["gra", "seed"]), "another schema version: it lacks seed, gra; restore a copy"),
        (lambda f: f.assign(extra=1), "another schema version: it has unknown extra; restore a copy"),
        (lambda f: pd.concat([f, f.tail(1)]), "same experiment and run_key more than once: lines 3, 4;"),
        (lambda f: f.assign(scale=["toy", "paper"]), "mixes scales: paper, toy; only toy belongs there; move"),
    ],
)
def test_rows_that_cannot_be_trusted_are_refused(folder, change, message):
    path = folder / "runs.csv"
    write_rows(path, runs("a", "b"), RUN_COLUMNS)
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ResultsError, match=message) as raised:
        read_rows(path, RUN_COLUMNS)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("keep", [0, 40])
def test_a_damaged_file_is_refused(folder, keep):
    path = folder / "rewards.csv.gz"
    write_rows(path, rewards("a", "b"), REWARD_COLUMNS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ResultsError, match="is empty or damaged .*; restore a copy, or delete it and give the commands"
    ):
        read_rows(path, REWARD_COLUMNS)
