"""Every leaf key of every configuration with every kind of bad value; `make bad-input` writes results/bad_input.md.

A case is one word of a command line. Its outcome is either "" (the value is valid) or the lines a user is shown. Anything
else that is raised is a defect.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.settings import check_config
from cwpo.commands.checks import check_command
from cwpo.commands.hydra_errors import explain, leaf_keys
from cwpo.config.commands import COMMANDS, register
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.pipeline.arms import composing, set_values
from cwpo.plain import shown

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
# model/ is what `furnish` makes.
NEEDED = {
    "annotate": ["data=pairs.jsonl", "model=model", "out=labeled"],
    "align": ["preferences=p.jsonl", "model=model", "out=aligned"],
    "compare": ["before=model", "after=model", "prompts=p.jsonl", "gold=oracle", "out=compared"],
    "store": ["action=list"],
}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 1, "max_position_embeddings": 64}  # fmt: skip


def furnish(folder: Path) -> None:
    """What valid configurations refer to: a checkpoint with garbage for weights, which nobody may load, and results."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA))
    (model / "tokenizer_config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"no weights")
    (folder / "results" / "toy").mkdir(parents=True)


def cases(keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(key, kind of value, word of the command line)."""
    for key in keys:
        for kind, value in VALUES.items():
            yield key, kind, f"{key}={value}"


def base(command: str | None) -> DictConfig:
    """A valid configuration of a command, None for scripts/run.py."""
    return _composed(command).copy()


@functools.cache
def _composed(command: str | None, *words: str) -> DictConfig:
    register()
    with composing(CONF if command is None else CONF / "command"):
        return compose(command or "config", overrides=[*NEEDED.get(command or "", []), *words])


def keys_of(command: str | None) -> list[str]:
    return list(leaf_keys() if command is None else leaf_keys(COMMANDS[command]))


def check(cfg: DictConfig, command: str | None) -> None:
    """What the command does with its configuration before it does anything else."""
    if command is None:
        check_config(cfg)
    else:
        check_command(cfg, command)


def outcome(cfg: DictConfig, word: str, command: str | None) -> list[str]:
    """What a sweep that sets `word` says of it; [] where the value is valid."""

    def changed() -> DictConfig:
        copy = cfg.copy()
        set_values(copy, OverridesParser.create().parse_overrides([word]))
        return copy

    return _said(changed, command)


def typed(command: str | None, *words: str) -> list[str]:
    """The same of one run: Hydra composes the configuration with the words in it."""
    return _said(lambda: _composed(command, *words), command)


def _said(made: Callable[[], DictConfig], command: str | None) -> list[str]:
    try:
        check(made(), command)
    except InputError as error:
        return [shown(problem) for problem in error.problems]
    except (HydraException, OmegaConfBaseException) as error:
        return [shown(explain(error))]
    return []


def write_table(path: Path) -> tuple[int, int]:
    """One example of each kind of message that the cases of all commands end in; (cases, refused)."""
    examples: dict[str, str] = {}
    total = refused = 0
    for command in (None, *COMMANDS):
        cfg = base(command)
        for key, _, word in cases(keys_of(command)):
            total += 1
            problems = outcome(cfg, word, command)
            refused += bool(problems)
            for problem in problems:
                words = f"scripts/{command or 'run'}.py {word}"
                examples.setdefault(kind_of(key, problem), f"| {_cell(words)} | {_cell(problem, code=False)} |")
    head = [
        "# Bad input and the messages about it",
        "",
        f"`make bad-input` tries every key of every command with {len(VALUES)} kinds of value that nobody would mean: {total:,} "
        f"cases, of which {refused:,} are refused before any data or model is read. The others are valid values of their key. "
        f"Here is one example of each of the {len(examples)} kinds of message.",
        "",
        "| for example | the message |",
        "|---|---|",
    ]
    path.write_text("\n".join([*head, *examples.values()]) + "\n", encoding="utf-8")
    return total, refused


def kind_of(key: str, problem: str) -> str:
    """The message without keys, values, bounds and the values that would be valid."""
    text = re.sub(r";? (did you mean|valid:) .*", "", problem)
    text = re.sub(rf"(?<![\w.]){re.escape(key)}(?!\w)", "KEY", text)
    text = re.sub(r"(?<==).*?(?= (is|must|cannot|has|holds|asks|becomes|would|needs)\b|$)", "", text)
    return re.sub(r"[\w.]+=|[\d.,]+|\[.*?\]", "", text)


def _cell(text: str, code: bool = True) -> str:
    text = shown(text if len(text) < 160 else f"{text[:60]}…{text[-60:]}" if code else text)
    text = text if len(text) < 420 else f"{text[:260]}…{text[-120:]}"
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if code else text.replace("<", "&lt;")


if __name__ == "__main__":
    table = Path(__file__).resolve().parent.parent / "results" / "bad_input.md"
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        furnish(Path(place))
        print("{} cases, {} refused".format(*write_table(table)))
