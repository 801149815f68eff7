"""What no value of any configuration can be, whatever its key: blank, full of control characters, beyond all bounds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.config import commands, schema
from cwpo.plain import CONTROL, visible

REQUIRED = "???"
LARGEST = 10**9
SEED = 2**31  # beyond it numpy or torch refuse what is added to a seed here
PROCESSES = 1024
LONGEST_WORD = 200  # characters of the command line that a message repeats
PART = 255  # bytes of a name in any file system
RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)  # also where its name is itself put together from references
ENDPOINT = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w.~-]+)*/?|https?://\[[\da-f:]+\](:\d+)?(/[\w.~-]+)*/?")
REVISION = re.compile(r"[\w+.-]+(/[\w+.-]+)*")
FILES = ("name", "scale_name", "scale")
COLUMNS = ("name", "scale_name", "data.name", "method.name", "pair.weak", "pair.strong")
MISSING = ("nan", "null", "none", "na", "n/a", "inf", "-inf", "true", "false")
WANDB = ("logger.project", "logger.entity")
# What OmegaConf says of a value of the wrong type -> what the key must be.
TYPES = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "not a valid bool": "true or false",
    "is not Optional": "given a value; it cannot be null",
    "to string": "one text",
    "is not a ListConfig": "a list, as in [a,b]",
    r"Cannot assign \w+ to Dict": "a mapping; set one of its entries, as in {0}.entry=value",
}
BOUNDS = {"seed": SEED - 1, "seeds": SEED - 1, **dict.fromkeys(("jobs", "threads", "processes"), PROCESSES)}
SIZED = ("data", "evaluation", "world")
COUNTS = {"pairs": 10**8, "test_pairs": 10**8, "prompts": 10**8, "sequences": 10**9}


def unreadable(cfg: DictConfig, set_later: Sequence[str] = ()) -> list[str]:
    """Values that are required, refer to what is not there, or are too long for any file system: there is none to check.

    A reference is to another key: no resolver may read the environment. Keys that begin with one of `set_later` may miss.
    """
    written = list(_leaves(OmegaConf.to_container(cfg, resolve=False)))
    problems = [
        f"{key}={visible(text)} asks for a resolver; a value may only refer to another key, as in ${{pair.strong}}"
        for key, text in written
        if isinstance(text, str) and RESOLVER.search(text)
    ]
    problems += [
        f"{key} is required: set {key}=..."
        for key, value in written
        if value == REQUIRED and not key.startswith(tuple(set_later))
    ]
    if problems:
        return problems
    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except (OmegaConfBaseException, RecursionError):
        return [problem for leaf in _nodes(cfg) if (problem := _unresolved(*leaf))]
    return [
        f"{key}={text[:40]}… has {len(text):,} characters; no name, nor any part of a path, has more than {PART}"
        for key, text in _leaves(plain)
        if isinstance(text, str)
        and any(len(part.encode(errors="replace")) > PART for part in text.split("/"))
    ]


def with_leaf_problems(cfg: DictConfig, special: Sequence[str]) -> list[str]:
    """The `special` problems of a configuration and those that any leaf can have, one line for each key.

    A text that is blank or unprintable is told as such; of a number the special problem says more.
    """
    leaves = list(_leaves(OmegaConf.to_container(cfg, resolve=True)))
    texts = [p for key, value in leaves if isinstance(value, str) and (p := _text_problem(cfg, key, value))]
    numbers = [p for key, value in leaves if (p := _number_problem(key, value))]
    wrong = set(map(_key, texts))
    problems = [problem for problem in special if _key(problem) not in wrong]
    told = set(map(_key, problems))
    return problems + [problem for problem in (*texts, *numbers) if _key(problem) not in told]


def wrong_type(word: str, reason: str) -> str:
    """A word of the command line that OmegaConf refuses for `reason`, in plain words."""
    key, _, value = word.partition("=")
    if "DictConfig with ListConfig" in reason:  # it says so of a list for a mapping, and the other way round
        reason = "is not a ListConfig" if value.lstrip().startswith("{") else "Cannot assign list to Dict"
    said = word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}… ({len(word):,} characters)"
    for pattern, wanted in TYPES.items():
        if re.search(pattern, reason):
            return f"{said} cannot be set: {key} must be {wanted.format(key)}"
    section = re.search(r"is not a subclass of (\w+)", reason)
    if section:
        kind = getattr(schema, section[1], None) or getattr(commands, section[1])
        keys = [f"{key}.{field.name}" for field in dataclasses.fields(kind)]
        switch = f"{key}.enabled"
        advice = f"set {switch}={value}" if switch in keys else f"set one of {', '.join(keys)}"
        return f"{said} cannot be set: {key} is a section; {advice}"
    entry = re.search(r"Key '([^']*)' is not in struct", reason)
    if entry:
        return f"{said} cannot be set: {key} has no entry {entry[1]}; to add one write +{key}.{entry[1]}=..."
    return f"{said} cannot be set: {reason}"


def _key(problem: str) -> str:
    return problem.partition("=")[0]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in plain containers."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in items:
        key = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict | list):
            yield from _leaves(value, key)
        else:
            yield key, value


def _nodes(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, its container, its name in it) of every value that refers to another."""
    names: Any = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        key = f"{path}.{name}" if path else str(name)
        child = node._get_node(name)
        if OmegaConf.is_interpolation(node, name):
            yield key, node, name
        elif isinstance(child, DictConfig | ListConfig) and not (child._is_none() or child._is_missing()):
            yield from _nodes(child, key)


def _unresolved(key: str, node: Any, name: Any) -> str | None:
    try:
        OmegaConf.to_container(OmegaConf.create({"value": node[name]}), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        written = visible(str(node._get_node(name)._value()))
        absent = re.search(r"Interpolation key '([^']*)' not found", str(error))
        why = f"there is no key {absent[1]}" if absent else str(error).splitlines()[0]
        return f"{key}={written} cannot be resolved: {why}; refer to another key, as in ${{pair.strong}}, or give the value"
    return None


def _text_problem(cfg: DictConfig, key: str, text: str) -> str | None:
    if not text.strip():
        return f"{key}={text!r} is blank; give it a value" + _or_null(cfg, key)
    if CONTROL.search(text) or "\n" in text:
        shown = visible(text).replace("\n", "\\n")
        return f"{key}={shown} holds control characters, which no name or path here can have"
    if key in FILES and (re.search(r"[/\\]", text) or text.startswith(".") or len(text) > 100):
        return f"{key}={text} becomes part of file names: at most 100 characters, no slash, and no dot at the start"
    if key in COLUMNS and (text.lower() in MISSING or _is_number(text)):
        return f"{key}={text} would be read as a number or as missing in the result tables; use a name with letters"
    if key.endswith("revision") and (not REVISION.fullmatch(text) or ".." in text):
        return f"{key}={text} is no branch, tag or commit"
    if key.startswith("data.folders.") and (text.startswith(("/", "~")) or ".." in text.split("/")):
        return f"{key}={text} is no folder inside the data set"
    if key in WANDB and re.search(r"[/\\#?%:]", text):
        return f"{key}={text} is no name for Weights & Biases: it may not contain / \\ # ? % or :"
    if key == "gold.base_url":
        fine = ENDPOINT.fullmatch(text)
        return (
            None
            if fine
            else f"{key}={text} is no address of an endpoint: http(s)://host/path, without user, password or query"
        )
    if "://" in text:
        return f"{key}={text} is an address; download it and name the file or folder, or give a hub id"
    return None


def _or_null(cfg: DictConfig, key: str) -> str:
    path, _, name = key.rpartition(".")
    parent: Any = OmegaConf.select(cfg, path) if path else cfg
    child = parent._get_node(int(name) if isinstance(parent, ListConfig) else name)
    return f", or {key}=null" if child._is_optional() else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number_problem(key: str, value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if value != value:
        return f"{key}=nan is not a number"
    most = _most(key)
    if -LARGEST <= value <= most:
        return None
    bound = f"at most {most:,}" if value > 0 else f"at least -{LARGEST:,}"
    return f"{key}={_short(value)} is beyond all bounds; it must be {bound}"


def _most(key: str) -> int:
    """The largest value of a key; list items have their list's."""
    section, _, leaf = re.sub(r"\.\d+$", "", key).rpartition(".")
    return BOUNDS.get(leaf) or (COUNTS.get(leaf, LARGEST) if section in SIZED else LARGEST)


def _short(value: float) -> str:
    text = str(value)
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text)} digits)"
