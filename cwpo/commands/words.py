"""Quotes values on the command line, so that Hydra reads a text as it was typed and does not parse it."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.types import Quote, QuotedString

from cwpo.config.commands import COMMANDS
from cwpo.config.schema import Config
from cwpo.errors import InputError

MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}  # arguments that make Hydra sweep
WORD = re.compile(r"([+]{0,2}[A-Za-z_][\w.]*)=(.+)", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)  # values that Hydra reads as text
HOME = re.compile(r"(?<=[=,\['\"])~(?=/)")  # a ~ that begins a path; shells keep it in a=~/b
VALUES = "true false yes no on off inf nan none".split()  # matches of PLAIN that Hydra does not read as text


def schema_in_use() -> type:
    """Returns the schema of the running command; for run and plan this is Config."""
    return COMMANDS.get(Path(sys.argv[0]).stem, Config)


def refuse_sweep(words: Sequence[str], schema: type) -> None:
    """Raises InputError for a sweep by any command but run, unless out=...${...}... gives each job its own folder."""
    flags = [word for word in words if word in MULTIRUN or (word[:3] == "--m" and "--multirun".startswith(word))]
    own_folders = any(word.startswith("out=") and "${" in word for word in words)
    if schema is not Config and flags and not own_folders:
        raise InputError(f"{flags[0]}: only scripts/run.py sweeps; give this command once for each value")


def as_typed(words: Sequence[str], schema: type) -> list[str]:
    """Returns the arguments `words`, with quotes around the values of str keys, so that out=1e3 names the folder 1e3.

    `schema`, the command's configuration, gives the type of each key. In a path, a leading ~/ becomes the home folder.
    Null, lists, mappings, and values that are quoted or escaped get no quotes. If `schema` is Config (commands run and
    plan), neither do values with `,` or `(`, because these make a sweep.
    """
    return [_quoted(HOME.sub(lambda _: os.path.expanduser("~"), word), schema) for word in words]


def kind_of(schema: type, key: str) -> Any:
    """Returns the type of a dotted key in a schema, without `| None`; None for a key that does not exist."""
    kind: Any = schema
    for part in key.split("."):
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind).get(part)
            kind = next((arg for arg in get_args(kind) if type(None) in get_args(kind)), kind)
        else:
            kind = get_args(kind)[1] if get_origin(kind) is dict else None
    return kind


def quoted(value: str) -> str:
    """Returns `value` quoted and escaped, so that Hydra reads exactly this text from the command line."""
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _quoted(word: str, schema: type) -> str:
    match = WORD.fullmatch(word)
    if match is None or kind_of(schema, match[1].lstrip("+")) not in (str, Any):
        return word
    value = match[2]
    plain = PLAIN.fullmatch(value) and value.lower() not in VALUES
    if plain or value == "null" or value[0] in "'\"[{" or "\\" in value:
        return word
    if schema is Config and re.search("[,(]", value):
        return word
    return f"{match[1]}={quoted(value)}"
