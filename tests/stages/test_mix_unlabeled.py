"""D_unlabeled of two data sets: Table 24's shared pool, Table 25's Eq. 19."""

import numpy as np
import pandas as pd
import pytest

from cwpo.pipeline.arms import expand
from cwpo.stages.mix_unlabeled import mixed


def pairs(name: str, unlabeled: int = 20) -> pd.DataFrame:
    splits = ["labeled"] * 5 + ["unlabeled"] * unlabeled + ["test"] * 3
    ids = [f"{i:02d}{name}" for i in range(len(splits))]
    return pd.DataFrame({"pair_id": ids, "split": splits, "domain": name})


def pool(table: pd.DataFrame) -> list[str]:
    return table.loc[table["split"] == "unlabeled", "pair_id"].tolist()


def mix(own: pd.DataFrame, other: pd.DataFrame, rule: str, seed: int = 0) -> pd.DataFrame:
    return mixed(own, other, rule, np.random.default_rng(seed))


def test_both_is_the_same_pool_whichever_set_is_the_arms_own():
    own, other = pairs("own"), pairs("other")
    table = mix(own, other, "both")
    assert pool(table) == pool(mix(other, own, "both")) == sorted(pool(own) + pool(other))
    rest = table[table["split"] != "unlabeled"]
    assert rest["domain"].eq("own").all() and rest["split"].value_counts().to_dict() == {"labeled": 5, "test": 3}


def test_eq19_is_all_of_the_other_set_and_thirty_percent_of_the_own():
    own, other = pairs("own"), pairs("other")
    tables = [mix(own, other, "eq19", seed) for seed in (0, 1)]
    for table in tables:
        unlabeled = table[table["split"] == "unlabeled"]
        assert unlabeled["domain"].value_counts().to_dict() == {"other": 20, "own": 6}
    assert pool(tables[0]) != pool(tables[1])


def test_a_pair_that_both_sets_have_is_there_once():
    own, other = pairs("own"), pairs("other")
    other.loc[6, "pair_id"] = own.loc[2, "pair_id"]  # unlabeled there, labeled here
    table = mix(own, other, "both")
    assert not table["pair_id"].duplicated().any() and len(table) == 28 + 19


@pytest.mark.soak
def test_the_scale_decides_what_tables_24_and_25_align_on():
    for experiment, rule in (("table24", "both"), ("table25", "eq19")):
        toy, paper = (
            expand([f"experiment={experiment}", f"scale={scale}", "data=harmless"], [0], look=False)[0]
            for scale in ("toy", "paper")
        )
        assert toy.cfg.labeled.unlabeled == "own" and "mix_unlabeled" not in toy.nodes
        assert paper.cfg.labeled.unlabeled == rule
        mixture = paper.nodes["mix_unlabeled"]
        assert {paper.nodes[name].parents["prepare"].key for name in ("annotate", "select", "generate")} == {
            mixture.key
        }
