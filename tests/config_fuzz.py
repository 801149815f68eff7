"""Every leaf key of every configuration with every kind of bad value; `make bad-input` writes results/bad_input.md from it.

A case is one word of a command line. Its outcome is either "" (the value is valid) or the lines a user is shown. Anything
else that is raised is a defect.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.settings import check_config
from cwpo.commands.checks import check_command
from cwpo.commands.entry import explain, leaf_keys
from cwpo.config.commands import COMMANDS, register
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.pipeline.arms import composing, with_values
from cwpo.pipeline.graph import STAGES
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


def write_table(path: Path) -> tuple[int, int]:
    """All cases with their messages, and what is left as valid; (cases, refused).

    Cases of one command that are told the same, but for key and value, share a row, which shows the first of them.
    """
    lines, valid, total, count = [], [], 0, 0
    for command in (None, *COMMANDS):
        cfg = base(command)
        rows: dict[str, tuple[str, list[str], dict[str, None], dict[str, None]]] = {}
        accepted: dict[str, list[str]] = {}
        for key, kind, word in cases(keys_of(command)):
            total += 1
            said = outcome(cfg, word, command)
            if not said:
                accepted.setdefault(kind, []).append(key)
                continue
            count += 1
            row = rows.setdefault(_alike(key, said), (word, said, {}, {}))
            row[2][kind], row[3][key] = None, None
        lines += [
            f"\n## scripts/{command or 'run'}.py\n",
            "| for example | what is said | so are told | of the keys |",
            "|---|---|---|---|",
            *(
                f"| {_cell(word)} | {'<br>'.join(_cell(line, code=False) for line in said)} | {', '.join(kinds)} | {_few(keys)} |"
                for word, said, kinds, keys in rows.values()
            ),
        ]
        valid.append(f"\n## scripts/{command or 'run'}.py: accepted\n")
        valid += [f"* {kind}: {_few(keys, 100)}" for kind, keys in accepted.items()]
    head = [
        "# Bad input, and what is said about it",
        "",
        f"Written by `make bad-input`: every key of every command with {len(VALUES)} kinds of value that nobody would mean, {total:,} "
        f"cases. {count:,} are refused before any data or model is read, in the words below; cases that are told the same, but for "
        "key and value, share a row. The rest are valid values of their key, listed at the end: a name or folder may be any text, an "
        "optional key may be null, for a switch 0 is false and any other number true, and what an arm does not read is not looked up.",
    ]
    path.write_text("\n".join([*head, *lines, *valid]) + "\n", encoding="utf-8")
    return total, count


def _alike(key: str, said: Sequence[str]) -> str:
    """The message without the key and the value."""
    text = re.sub(rf"(?<![\w.]){re.escape(key)}(?![\w])", "KEY", " ".join(said))
    return re.sub(r"(?<==).*?(?= (is|must|cannot|has|holds|asks|becomes|would)\b|$)", "", text)


def _few(keys: Iterable[str], most: int = 4) -> str:
    names = [f"`{key}`" for key in keys]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
