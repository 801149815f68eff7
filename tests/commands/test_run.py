"""What a single run says about the arms it can be compared with."""

import pandas as pd

from cwpo.commands.run import against_others
from cwpo.results import REWARD_COLUMNS, RUN_COLUMNS, RunRewards, write_rows

PROMPTS = [f"p{i}" for i in range(4)]


def results(folder, *arms: tuple[str, dict, list[float], list[str]]):
    rows, rewards = [], []
    for key, given, reward, prompts in arms:
        base = dict.fromkeys(RUN_COLUMNS) | {
            "experiment": "mine",
            "scale": folder.name,
            "data": "reviews",
            "weak": "w",
            "strong": "s",
        }
        rows.append(
            base | {"objective": "dpo", "method": key, "seed": 0, "run_key": key, "n_eval": 4} | given
        )
        rewards.append(RunRewards.of(prompts, reward, [0.0] * 4).row(key))
    write_rows(folder / "runs.csv", pd.DataFrame(rows), RUN_COLUMNS)
    write_rows(folder / "rewards.csv.gz", pd.DataFrame(rewards), REWARD_COLUMNS)


def test_wins_and_difference_by_hand(tmp_path):
    folder = tmp_path / "toy"
    results(
        folder,
        ("cw_po", {}, [1.0, 2.0, 3.0, 4.0], PROMPTS),
        (
            "human",
            {},
            [1.0, 3.0, 2.0, 0.0],
            PROMPTS,
        ),  # tie, loss, win, win: 2.5 of 4; differences 0, -1, 1, 4
        ("other_seed", {"seed": 1}, [0.0] * 4, PROMPTS),
        ("other_data", {"data": "else"}, [0.0] * 4, PROMPTS),
        ("other_prompts", {}, [0.0] * 4, ["q1", "q2", "q3", "q4"]),
    )
    (line,) = against_others(folder, "cw_po")
    assert line.startswith("against human (human): wins 62.5 %, gold reward +1.000 [")
    assert line.endswith("on 4 prompts")
    (line,) = against_others(folder, "human")
    assert line.startswith("against cw_po (cw_po): wins 37.5 %, gold reward -1.000 [")


def test_an_arm_alone_says_nothing(tmp_path):
    results(tmp_path / "toy", ("cw_po", {}, [1.0, 2.0, 3.0, 4.0], PROMPTS))
    assert against_others(tmp_path / "toy", "cw_po") == []


def test_an_arm_whose_rewards_a_killed_run_did_not_enter_is_left_out(tmp_path):
    folder = tmp_path / "toy"
    results(folder, ("cw_po", {}, [1.0] * 4, PROMPTS), ("human", {}, [0.0] * 4, PROMPTS))
    own = RunRewards.of(PROMPTS, [1.0] * 4, [0.0] * 4).row("cw_po")
    write_rows(folder / "rewards.csv.gz", pd.DataFrame([own]), REWARD_COLUMNS)
    assert against_others(folder, "cw_po") == []
