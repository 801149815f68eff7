"""Checks that a composed configuration can be read: known keys, required values, references that resolve."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.config import commands
from cwpo.config import schema as run_schema
from cwpo.config.rules import Rule
from cwpo.errors import InputError, Problem, nearest
from cwpo.plain import visible

REQUIRED = "???"
LONGEST_WORD = 200  # characters of a command-line argument that a message quotes
PART = 255  # most bytes of a file name in any common file system
RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)  # also matches a resolver whose name is built from references
# Pattern of OmegaConf's message about a value of the wrong type -> what the key must be.
TYPES = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "not a valid bool": "true or false",
    "is not Optional": "given a value; it cannot be null",
    "to string": "one text",
    "is not a ListConfig": "a list, as in [a,b]",
    r"Cannot assign \w+ to Dict": "a mapping; set one of its entries, as in {0}.entry=value",
}


@dataclass(frozen=True)
class Key:
    """One field of a schema (a configuration dataclass). `section`: the schema of a nested section; None for a value.

    `optional`: may be null. `completed_later`: required keys in the section may lack a value; the command sets them.
    """

    section: type | None
    rules: tuple[Rule, ...]
    default: Any
    optional: bool
    completed_later: bool


@cache
def keys_of(schema: type) -> dict[str, Key]:
    """Returns {name: Key} of the fields of a schema."""
    return {
        field.name: Key(
            section=field.default_factory if dataclasses.is_dataclass(field.default_factory) else None,  # type: ignore[arg-type]
            rules=field.metadata.get("rules", ()),
            default=field.default,
            optional=field.type is Any or type(None) in get_args(field.type),
            completed_later=field.metadata.get("completed_later", False),
        )
        for field in dataclasses.fields(schema)
    }


def read(cfg: DictConfig, schema: type, convert: Callable[[DictConfig], Any]) -> Any:
    """Returns convert(cfg): the values, as mappings or as dataclasses, with references to other keys resolved.

    Raises InputError for keys that `schema` lacks, required keys without a value, broken references, texts that are too
    long for a path, and calls of resolvers (functions in a value), because some resolvers read the environment.
    """
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    problems = [*_unknown(written, schema), *_unwritten(written, schema)]
    if problems:
        raise InputError(problems)
    try:
        values = convert(cfg)
    except (OmegaConfBaseException, RecursionError):
        raise InputError(list(_unresolved(cfg))) from None
    texts = items(values if isinstance(values, dict) else dataclasses.asdict(values))
    long = {key: text for key, text in texts if isinstance(text, str) and _too_long(text)}
    if long:
        why = f"characters; no name, nor any part of a path, has more than {PART}"
        raise InputError([f"{key}={text[:40]}… has {len(text):,} {why}" for key, text in long.items()])
    return values


def items(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of every plain value in nested dicts and lists; keys begin with `path`, if given."""
    if not isinstance(node, dict | list):
        yield path, node
        return
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from items(value, f"{path}.{name}" if path else str(name))


def wrong_type(word: str, reason: str) -> str:
    """Returns the message for the command-line argument `word`, which OmegaConf refuses with the message `reason`."""
    key, _, value = word.partition("=")
    if "DictConfig with ListConfig" in reason:  # for a mapping in place of a list, and for the reverse
        reason = "is not a ListConfig" if value.lstrip().startswith("{") else "Cannot assign list to Dict"
    short = word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}… ({len(word):,} characters)"
    for pattern, wanted in TYPES.items():
        if re.search(pattern, reason):
            return f"{short} cannot be set: {key} must be {wanted.format(key)}"
    section = re.search(r"is not a subclass of (\w+)", reason)
    if section:
        names = keys_of(getattr(run_schema, section[1], None) or getattr(commands, section[1]))
        one = f"set one of {', '.join(f'{key}.{name}' for name in names)}"
        advice = f"set {key}.enabled={value}" if "enabled" in names else one
        return f"{short} cannot be set: {key} is a section; {advice}"
    entry = re.search(r"Key '([^']*)' is not in struct", reason)
    if entry:
        return f"{short} cannot be set: {key} has no entry {entry[1]}; to add one write +{key}.{entry[1]}=..."
    return f"{short} cannot be set: {reason}"


def wrong(cfg: Any, key: str, why: str) -> Problem:
    """Returns a Problem with the text `key=value why`. If `key` is a section of `cfg`, value is its field `name`."""
    value = attrgetter(key)(cfg)
    value = getattr(value, "name", value)
    return Problem(key, f"{key}={str(value).lower() if isinstance(value, bool) else value} {why}")


def _unknown(node: Mapping[str, Any], schema: type, prefix: str = "") -> Iterator[Problem]:
    """Yields a problem for each key that `schema` lacks: Hydra accepts +key=value, but nothing would read the value."""
    known = keys_of(schema)
    for name in node:
        key = f"{prefix}{name}"
        if name not in known:
            valid = nearest(key, [f"{prefix}{each}" for each in known])
            yield Problem(key, f"+{key} is not a key of the configuration; {valid}")
        elif (section := known[name].section) and isinstance(node[name], dict):
            yield from _unknown(node[name], section, f"{key}.")


def _unwritten(written: Mapping[str, Any], schema: type) -> list[Problem]:
    """Returns a problem for each value that calls a resolver and each required key without a value."""
    later = tuple(f"{name}." for name, key in keys_of(schema).items() if key.completed_later)
    problems = []
    for key, text in items(written):
        if isinstance(text, str) and RESOLVER.search(text):
            advice = "a value may only refer to another key, as in ${pair.strong}"
            problems.append(Problem(key, f"{key}={visible(text)} asks for a resolver; {advice}"))
        elif text == REQUIRED and not key.startswith(later):
            problems.append(Problem(key, f"{key} is required: set {key}=..."))
    return problems


def _too_long(text: str) -> bool:
    return any(len(part.encode(errors="replace")) > PART for part in text.split("/"))


def _unresolved(node: Any, path: str = "") -> Iterator[Problem]:
    """Yields a problem for each value that refers to another key and cannot be resolved."""
    names: Any = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        key = f"{path}.{name}" if path else str(name)
        child = node._get_node(name)
        if OmegaConf.is_interpolation(node, name):
            try:
                OmegaConf.to_container(OmegaConf.create({"value": node[name]}), resolve=True)
            except (OmegaConfBaseException, RecursionError) as error:
                absent = re.search(r"Interpolation key '([^']*)' not found", str(error))
                why = f"there is no key {absent[1]}" if absent else str(error).splitlines()[0]
                advice = "refer to another key, as in ${pair.strong}, or give the value"
                yield Problem(key, f"{key}={visible(str(child._value()))} cannot be resolved: {why}; {advice}")
        elif isinstance(child, DictConfig | ListConfig) and not (child._is_none() or child._is_missing()):
            yield from _unresolved(child, key)
