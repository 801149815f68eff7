"""Every leaf key of every configuration with every kind of bad value; `make bad-input` writes results/bad_input.md from it.

A case is one word of a command line. Its outcome is either "" (the value is valid) or the lines a user is shown. Anything
else that is raised is a defect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cwpo.cli import explain, leaf_keys
from cwpo.command_checks import check_command
from cwpo.commands import COMMANDS, register
from cwpo.config import CONF
from cwpo.errors import InputError
from cwpo.pipeline import STAGES
from cwpo.plain import shown
from cwpo.plan import composing, with_values
from cwpo.validation import check_config

# What nobody would mean, as it would be typed; quotes are those of the command line's grammar.
VALUES = {
    "an unknown word": "nonsense",
    "a list": "[1,2]",
    "a mapping": "{a:1}",
    "true": "true",
    "negative": "-1",
    "a negative fraction": "-0.5",
    "zero": "0",
    "huge": "99999999999999999999",
    "huge, with a point": "1e30",
    "not a number": "nan",
    "infinite": "inf",
    "minus infinity": "-inf",
    "empty": "''",
    "blank": "'  '",
    "null": "null",
    "a path out of the folder": "../../etc/passwd",
    "a terminal sequence": "'a\x1b[31mred'",
    "an address with a password": "'https://user:hunter2hunter2@host/x'",
    "a variable of the environment": "'${oc.env:HOME}'",
    "a reference to nothing": "'${no.such.key}'",
    "a very long word": "x" * 5000,
}
# What the commands need before they can be run at all, so that the case's own word is what is wrong.
NEEDED = {
    "annotate": ["data=pairs.jsonl", "model=some/model", "out=labeled"],
    "compare": ["before=some/model", "after=other/model", "prompts=p.jsonl", "gold=oracle", "out=compared"],
}


def cases(keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(key, kind of value, word of the command line)."""
    for key in keys:
        for kind, value in VALUES.items():
            yield key, kind, f"{key}={value}"


def base(command: str | None) -> DictConfig:
    """A valid configuration of a command, None for scripts/run.py."""
    register()
    if command is None:
        with composing():
            return compose("config")
    with composing(CONF / "command"):
        return compose(command, overrides=NEEDED.get(command, []))


def keys_of(command: str | None) -> list[str]:
    return list(leaf_keys() if command is None else leaf_keys(COMMANDS[command]))


def check(cfg: DictConfig, command: str | None) -> None:
    """What the command does with its configuration before it does anything else."""
    if command is None:
        check_config(cfg, STAGES)
    else:
        check_command(cfg, command)


def outcome(cfg: DictConfig, word: str, command: str | None) -> list[str]:
    """What a sweep that sets `word` says of it; [] where the value is valid."""
    try:
        check(with_values(cfg, OverridesParser.create().parse_overrides([word])), command)
    except InputError as error:
        return [shown(problem) for problem in error.problems]
    except (HydraException, OmegaConfBaseException) as error:
        return [shown(explain(error)).removeprefix("error: ")]
    return []


def typed(word: str, command: str | None) -> list[str]:
    """The same of one run: Hydra composes the configuration with the word in it."""
    try:
        with composing(CONF if command is None else CONF / "command"):
            cfg = compose(command or "config", overrides=[*NEEDED.get(command or "", []), word])
        check(cfg, command)
    except InputError as error:
        return [shown(problem) for problem in error.problems]
    except (HydraException, OmegaConfBaseException) as error:
        return [shown(explain(error)).removeprefix("error: ")]
    return []


def write_table(path: Path) -> None:
    """All cases that are refused, with their messages, and what is left as valid."""
    refused, valid, total = [], [], 0
    for command in (None, *COMMANDS):
        name = f"scripts/{command or 'run'}.py"
        refused += [f"\n## {name}\n", "| on the command line | what is said |", "|---|---|"]
        valid.append(f"\n## {name}: accepted\n")
        for key in keys_of(command):
            fine = []
            for _, kind, word in cases([key]):
                total += 1
                said = typed(word, command)
                if said:
                    refused.append(
                        f"| {_cell(word)} | {'<br>'.join(_cell(line, code=False) for line in said)} |"
                    )
                else:
                    fine.append(kind)
            if fine:
                valid.append(f"* `{key}`: {', '.join(fine)}")
    count = sum(line.startswith("| `") for line in refused)
    head = [
        "# Bad input, and what is said about it",
        "",
        f"Written by `make bad-input`: every key of every command with {len(VALUES)} kinds of value that nobody would mean, {total:,} "
        f"cases. {count:,} are refused before any data or model is read, in the words below; the rest are valid values of "
        "their key, listed at the end (a name may be any text, an optional key may be null).",
    ]
    path.write_text("\n".join([*head, *refused, *valid]) + "\n", encoding="utf-8")


def _cell(text: str, code: bool = True) -> str:
    text = shown(text if len(text) < 160 else f"{text[:60]}…{text[-60:]}" if code else text)
    text = text if len(text) < 600 else f"{text[:300]}…{text[-200:]}"
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if code else text.replace("<", "&lt;")


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    write_table(Path("results") / "bad_input.md")
