"""Rows of other seeds and cells stay when a run adds some, as long as the experiment still has their arms."""

import pandas as pd
import pytest

from cwpo.commands.reproduce import others_are_outdated
from cwpo.pipeline.arms import expand
from cwpo.results import RUN_COLUMNS

WORDS = ["pair=opt_small", "data=harmless"]


@pytest.fixture
def results(tmp_path):
    """Result files with the rows of seeds 0 and 1."""
    arms = expand(["experiment=table5", *WORDS], [0, 1])
    rows = [{"experiment": "table5", "scale": "toy", "seed": arm.cfg.seed, "run_key": arm.key} for arm in arms]
    (tmp_path / "toy").mkdir()
    pd.DataFrame(rows, columns=RUN_COLUMNS).to_csv(tmp_path / "toy" / "runs.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("seeds", [[0], [2], [1, 2]])
def test_rows_of_other_seeds_stay(results, seeds):
    assert not others_are_outdated("table5", expand(["experiment=table5", *WORDS], seeds), results, WORDS)


def test_rows_of_other_settings_give_way(results, capsys):
    words = [*WORDS, "alignment.epochs=1"]
    assert others_are_outdated("table5", expand(["experiment=table5", *words], [2]), results, words)
    assert "table5: 16 rows of an earlier version give way" in capsys.readouterr().out


def test_without_rows_nothing_is_outdated(tmp_path):
    assert not others_are_outdated("table5", expand(["experiment=table5", *WORDS], [0]), tmp_path, WORDS)
