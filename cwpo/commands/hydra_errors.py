"""Turns each error of Hydra or OmegaConf into one message with the nearest valid keys or values."""

import difflib
import re
from collections.abc import Callable, Iterator
from typing import get_origin

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.reading import keys_of, wrong_type
from cwpo.commands.words import kind_of, schema_in_use
from cwpo.config.commands import COMMANDS
from cwpo.config.schema import CONF, Config
from cwpo.errors import nearest

NOT_GROUPS = ("command", "hydra", "accelerate")  # folders of conf/ that are not config groups of run.py
NOISE = ("full_key:", "object_type=", "See https", "reference_type=")


def explain(error: Exception) -> str:
    """Returns the message for an error that Hydra or OmegaConf raised while it read the command line."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _malformed(error.override, text)
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += "\n" + str(error.__cause__)
    if text.startswith("Config group override must be"):
        return f"each of {', '.join(groups())} takes the name of a file in its folder of conf/, not null or a number"
    for pattern, words in FORMS:
        match = re.search(pattern, text)
        if match:
            return words(match, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    where = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    rest = " ".join(line for line in lines if not line.startswith(NOISE))
    return f"{where}: {rest}" if where else rest


def _choice(match: re.Match[str], text: str) -> str:
    group, choice = match.groups()
    options = text.partition("Available options")[2].partition("Config search path")[0].split()[2:]
    return f"{group}={choice} is unknown; {nearest(choice, options)}"


def _key(match: re.Match[str], text: str) -> str:
    full = re.search(r"full_key: (\S+)", text)
    key = full[1] if full else match[1]
    if "reference_type=Dict[" in text:  # a mapping takes any key
        return f"unknown key {key}; to add it write +{key}=..."
    schema = next((kind for kind in COMMANDS.values() if kind.__name__ in text), Config)
    return f"unknown key {key}; {_nearest_key(key, schema)}"


def _several(match: re.Match[str], text: str) -> str:
    key, values = match.groups()
    schema, several = schema_in_use(), f"{key}={values} is several values"
    if get_origin(kind_of(schema, key)) is list:
        return f"{several}; write a list as {key}=[{values}]"
    return f"{several}; add -m to run each of them" if schema is Config else f"{several}; {key} takes one"


def _malformed(word: str, text: str) -> str:
    """Returns the message for an argument that Hydra's grammar cannot read; `text` is Hydra's own message."""
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"[+~]*[\w.@/]+", key):
        return f"cannot read {word!r}; write key=value"
    if re.search(r"(^|,)\s*(,|$)", value):
        return f"cannot read {word!r}: a value is missing beside a comma; remove the comma"
    if value[:1] in "[{":
        example = 'quote each element that holds = , : or brackets: \'overrides=["seed=0","method=cw_po"]\''
        return f"cannot read {word!r}; close all brackets and quotes, and {example}"
    called = re.search(r"while evaluating '.*?': (.*)", text)
    why = f": Hydra takes it for a call of a function ({called[1]})" if called else ""
    example = f"quote a text that holds brackets, quotes, = , or :, as in '{key}=\"two (words)\"'"
    return f"cannot read {word!r}{why}; close all brackets and quotes, and {example}"


# (pattern of an error text of Hydra or OmegaConf, function of its match and the whole text that returns our message)
FORMS: tuple[tuple[str, Callable[[re.Match[str], str], str]], ...] = (
    (r"[Cc]ould not find '([^'/]+)/([^']*)'", _choice),
    (r"Could not override '([^']+)'", _key),
    (r"Key '([^']+)' not in", _key),
    (r"Ambiguous value for argument '([^=]+)=([^']*)'", _several),
    (
        r"no viable alternative at input '(\$.*)'",
        lambda match, _: f"cannot read {match[1]!r}; close the reference to another key, as in ${{pair.strong}}",
    ),
    (r"Error merging override (.+)\n(.+)", lambda match, _: wrong_type(match[1], match[2].strip())),
)


def _nearest_key(key: str, schema: type) -> str:
    """Returns a hint: valid keys near `key`, if any; then all keys of its section, or all top-level keys."""
    parent, _, leaf = key.rpartition(".")
    keys = sorted({*leaf_keys(schema), *(groups() if schema is Config else [])})
    close = [each for each in keys if each.split(".")[-1] == leaf][:3]
    close = close or difflib.get_close_matches(key, keys, n=1)
    beside = [each for each in keys if parent and each.startswith(f"{parent}.")]
    beside = beside or sorted({each.split(".")[0] for each in keys})
    return (f"did you mean {' or '.join(close)}? " if close else "") + "valid: " + ", ".join(beside)


def leaf_keys(node: type = Config, prefix: str = "") -> Iterator[str]:
    """Yields `prefix` + dotted key of each value in the schema `node`, also of the values in its nested sections."""
    for name, key in keys_of(node).items():
        if key.section is None:
            yield f"{prefix}{name}"
        else:
            yield from leaf_keys(key.section, f"{prefix}{name}.")


def groups() -> list[str]:
    """Returns the names of the config groups in conf/: data, pair, method, ..."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NOT_GROUPS)
