"""Configuration files are data: one from a stranger sets values, and cannot name code, a logger or the environment.

Hydra itself would call what a file names under hydra.callbacks, hydra.job_logging and the like before our own code runs,
so the files are looked through first: all of conf/ and of the folders that the command line names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cwpo.checks.reading import RESOLVER
from cwpo.config.schema import CONF
from cwpo.errors import InputError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CODE = ("_target_", "()", "class")  # keys whose values Hydra or logging import and call
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
# What a file of conf/ may set of Hydra's own configuration; {} stands for anything below.
OURS: dict[str, Any] = {
    "output_subdir": None,
    "mode": None,
    "run": {"dir": None},
    "sweep": {"dir": None, "subdir": None},
    "job": {"chdir": None},
    "job_logging": {"root": {"level": None}},
    "sweeper": {"params": {}},
}
# The same of other folders' files: they choose no folder that is written to.
THEIRS: dict[str, Any] = {"mode": None, "sweeper": {"params": {}}}
WORDS = re.compile(
    r"[+~]*(hydra[./](callbacks|searchpath|job_logging|hydra_logging|job\.env)|[^=]*@[^=]*hydra)|.*_target_"
)
NODES = 20_000  # in all of conf/ there are about a thousand


def refuse_code(words: Sequence[str]) -> None:
    """InputError with every word of the command line, and every place in a configuration file, that could start code."""
    problems = [
        f"{word} is refused: it would let Hydra import and call what it names"
        for word in words
        if WORDS.match(word)
    ]
    for folder in (CONF, *_folders(words)):
        for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
            problems += file_problems(file, folder)
    if problems:
        raise InputError(problems)


def file_problems(file: Path, folder: Path) -> list[str]:
    """What a configuration file of `folder` must not hold."""
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, LOADER)  # safe: plain values only, no tags
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        return [f"{file} cannot be read as YAML: {' '.join(str(error).split())}"]
    try:
        found = [
            f"{file}: {where} names code, or asks for a resolver, which no configuration file may do"
            for where in _code(content)
        ]
    except OverflowError:
        return [f"{file} has more than {NODES:,} values, aliases included"]
    parts = file.relative_to(folder).parts
    own = folder == CONF and parts[:2] == (
        "hydra",
        "launcher",
    )  # plain values that cwpo.execution.cluster reads
    inside = (parts[0] == "hydra" and not own) or re.search(r"@package\s+\S*hydra", text)
    hydra = content.get("hydra") if isinstance(content, dict) else None
    defaults = content.get("defaults") if isinstance(content, dict) else None
    if inside or re.search(r"@[^'\"]*hydra", str(defaults or "")):
        found.append(f"{file} writes into Hydra's own configuration")
    allowed = OURS if folder.resolve() == CONF.resolve() else THEIRS
    return found + [
        f"{file}: {key} is Hydra's; a file may set {', '.join(f'hydra.{name}' for name in allowed)}"
        for key in _not_ours(hydra, allowed, "hydra")
    ]


def _folders(words: Sequence[str]) -> Iterator[Path]:
    for flag, following in zip(words, [*words[1:], ""]):
        name, equals, value = flag.partition("=")
        if name in FOLDERS:
            yield Path(value if equals else following).expanduser()


def _code(node: Any) -> Iterator[str]:
    """Dotted keys that name code or ask for a resolver. OverflowError where aliases make more of a file than it is."""
    seen = 0
    stack = [("", node)]
    while stack:
        path, here = stack.pop()
        seen += 1
        if seen > NODES:
            raise OverflowError
        if isinstance(here, dict):
            for key, value in here.items():
                at = f"{path}.{key}" if path else str(key)
                if key in CODE or any(f"{name}:" in str(key) for name in CODE):
                    yield at
                stack.append((at, value))
        elif isinstance(here, str) and RESOLVER.search(here):
            yield path
        elif isinstance(here, list):
            stack += [(f"{path}[{index}]", value) for index, value in enumerate(here)]


def _not_ours(node: Any, allowed: dict[str, Any], path: str) -> Iterator[str]:
    if node is None or allowed == {}:
        return
    if not isinstance(node, dict):
        yield path
        return
    for key, value in node.items():
        if key not in allowed:
            yield f"{path}.{key}"
        elif allowed[key] is not None:
            yield from _not_ours(value, allowed[key], f"{path}.{key}")
