"""Big tables shard by shard: finished shards are taken up again, damaged ones are not."""

import pandas as pd
import pytest

from cwpo.store.shards import map_table

ROWS = 10


@pytest.fixture
def source(tmp_path):
    pd.DataFrame({"x": range(35)}).to_parquet(tmp_path / "source.parquet")
    return tmp_path / "source.parquet"


class Work:
    """Doubles x; dies at the shard that begins with `dies`; remembers where the shards it made begin."""

    def __init__(self, dies: int | None = None) -> None:
        self.dies = dies
        self.made: list[int] = []

    def __call__(self, part: pd.DataFrame) -> pd.DataFrame:
        first = int(part["x"].iloc[0])
        if first == self.dies:
            raise KeyboardInterrupt
        self.made.append(first)
        return pd.DataFrame({"y": 2 * part["x"]})


def table(source, work, scratch):
    target = source.with_name("target.parquet")
    assert map_table(source, target, ["x"], work, scratch=scratch, rows=ROWS) == 35
    return target.read_bytes()


def interrupted(source, scratch) -> None:
    with pytest.raises(KeyboardInterrupt):
        table(source, Work(dies=20), scratch)


def test_a_second_run_makes_only_the_shards_that_are_missing(source, tmp_path):
    whole = table(source, Work(), tmp_path / "whole")
    interrupted(source, tmp_path / "scratch")
    again = Work()
    assert table(source, again, tmp_path / "scratch") == whole
    assert again.made == [20, 30]


DAMAGES = {
    "flipped": lambda shard: shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:]),
    "truncated": lambda shard: shard.write_bytes(shard.read_bytes()[:-1]),
    "empty": lambda shard: shard.write_bytes(b""),
    "grown": lambda shard: shard.write_bytes(shard.read_bytes() + b"x"),
    "deleted": lambda shard: shard.unlink(),
    "a folder": lambda shard: (shard.unlink(), shard.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_made_again(source, tmp_path, damage):
    whole = table(source, Work(), tmp_path / "whole")
    interrupted(source, tmp_path / "scratch")
    damage(min((tmp_path / "scratch").glob("*.parquet")))
    again = Work()
    assert table(source, again, tmp_path / "scratch") == whole
    assert again.made == [0, 20, 30]


def test_what_was_half_written_is_overwritten(source, tmp_path):
    (tmp_path / "scratch" / "000000.partial").mkdir(parents=True)
    (tmp_path / "scratch" / "000001.partial").write_text("half")
    table(source, Work(), tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob("*.partial"))


def test_a_shard_that_does_not_know_a_column_s_type_takes_that_of_the_others(source, tmp_path):
    """pandas 2 writes a column of nothing but None without a type."""

    def write(part: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"y": pd.Series([None if x < 20 else "text" for x in part["x"]], dtype=object)})

    map_table(source, tmp_path / "target.parquet", ["x"], write, scratch=tmp_path / "scratch", rows=ROWS)
    assert pd.read_parquet(tmp_path / "target.parquet")["y"].dropna().tolist() == ["text"] * 15
