"""Every leaf key of every configuration with every kind of bad value: a clear message, or the value is valid.

The folder these cases run in holds a checkpoint with garbage for weights: loading it would be an error of another kind.
"""

import os
import random
from pathlib import Path

import config_fuzz
import pytest
from config_fuzz import VALUES, base, cases, check, furnish, keys_of, outcome, typed
from harness.state import COUNTS

from cwpo.config.commands import COMMANDS
from cwpo.plain import CONTROL

ALL = (None, *COMMANDS)
SAMPLE = 36  # cases that Hydra composes anew, which takes most of a second each
SHARE = 5  # the ordinary tests try one case in so many; 5 and the 21 kinds of values have no common divisor
FROM_INSIDE = "Traceback object_type= full_key ConfigAttributeError ValidationError NoneType".split() + [
    " object at 0x"
]
# What no key may take, whatever it means; a switch takes any whole number.
NEVER = ["empty", "blank", "a terminal sequence", "a variable of the environment", "a reference to nothing"]
NEVER += ["a very long word"]


@pytest.fixture(autouse=True)
def furnished(tmp_path, monkeypatch):
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)


def listing() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def assert_clear(said: list[str], key: str, kind: str, word: str) -> None:
    for line in said:
        assert line.strip() and "\n" not in line, word
        assert not CONTROL.search(line), (word, line)
        assert "hunter2" not in line and (os.environ["HOME"] not in line or len(os.environ["HOME"]) < 2), line
        assert not any(part in line for part in FROM_INSIDE), (word, line)
        assert len(line) < 1_000, (word, len(line))
    assert said or kind not in NEVER, f"{word} is accepted"
    told = {key, key.replace("data_source", "data.source")}  # nothing reads data_source but data.source
    assert not said or any(name in line for name in told for line in said), (word, said)


@pytest.mark.parametrize("command", ALL, ids=str)
def test_the_base_of_the_cases_is_valid(command):
    check(base(command), command)


@pytest.mark.soak
@pytest.mark.parametrize("command", ALL, ids=str)
@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), SHARE])
def test_every_bad_value_of_every_key(command, share):
    """All cases, or one in `share`, so that every key and every kind of value has its turn."""
    cfg, before = base(command), listing()
    chosen = list(cases(keys_of(command)))[::share]
    refused = 0
    for key, kind, word in chosen:
        try:
            said = outcome(cfg, word, command)
        except Exception as error:
            raise AssertionError(f"{word} ends in {type(error).__name__}") from error
        assert_clear(said, key, kind, word)
        refused += bool(said)
    assert len(chosen) == -(-len(keys_of(command)) * len(VALUES) // share) and refused > len(chosen) / 2
    assert {key for key, _, _ in chosen} == set(keys_of(command))
    assert listing() == before
    COUNTS.append(f"config fuzz, scripts/{command or 'run'}.py: {len(chosen)} cases, {refused} refused")


@pytest.mark.soak
def test_a_sample_composed_as_a_run_composes_it():
    """The other way a value gets in; both have to say the same, or at least refuse the same."""
    everything = [(command, *case) for command in ALL for case in cases(keys_of(command))]
    configs = {command: base(command) for command in ALL}
    before = listing()
    for command, key, kind, word in random.Random(0).sample(everything, SAMPLE):
        said = typed(command, word)
        assert_clear(said, key, kind, word)
        assert bool(said) == bool(outcome(configs[command], word, command)), word
    assert listing() == before


@pytest.mark.parametrize(
    ("command", "words"), [(None, "seed=-1 objective.beta=inf"), ("align", "keep=7 alignment.epochs=nan")]
)
def test_all_problems_are_said_at_once(command, words):
    said = [line.partition("=")[0] for line in typed(command, *words.split())]
    assert sorted(said) == sorted(word.partition("=")[0] for word in words.split())


def test_the_table_of_bad_input(tmp_path, monkeypatch):
    """`make bad-input` writes it for all commands; here for one."""
    monkeypatch.setattr(config_fuzz, "COMMANDS", {"store": COMMANDS["store"]})
    monkeypatch.setattr(config_fuzz, "keys_of", lambda command: ["seed"] if command is None else ["delete", "store"])
    total, refused = config_fuzz.write_table(tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    assert total == 3 * len(VALUES) and 0 < refused < total
    assert "| `scripts/run.py seed=-1` | seed=-1 must be at least 0 |" in text
    assert text.count("must be at least 0") == 1
    assert "hunter2" not in text and not CONTROL.search(text.replace("\n", ""))
