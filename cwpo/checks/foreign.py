"""Refuses configuration files that could run code: a file from a third party may only set values.

Hydra calls the functions that a file names under hydra.callbacks, hydra.job_logging and similar keys before our own
code runs. So all files of conf/ and of the folders that the command line names are checked first.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cwpo.checks.reading import RESOLVER
from cwpo.config.schema import CONF
from cwpo.errors import InputError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CODE = ("_target_", "()", "class")  # Hydra and logging import and call the values of these keys
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
NAMES = ("--config-name", "-cn")
PICKLES = ("--experimental-rerun",)  # unpickles a file, which can run code
# The keys below `hydra` that a file of conf/ may set. None: a value; {}: a mapping with any keys.
OURS: dict[str, Any] = {
    "output_subdir": None,
    "mode": None,
    "run": {"dir": None},
    "sweep": {"dir": None, "subdir": None},
    "job": {"chdir": None},
    "job_logging": {"root": {"level": None}},
    "sweeper": {"params": {}},
}
# The keys below `hydra` that a file of any other folder may set; Hydra's output folders are not among them.
THEIRS: dict[str, Any] = {"mode": None, "sweeper": {"params": {}}}
WORDS = re.compile(
    r"[+~]*(hydra[./](callbacks|searchpath|job_logging|hydra_logging|job\.env|sweeper\.custom_search_space)|[^=]*@[^=]*hydra)|.*_target_"
    r"|[+~]*hydra/[^=]*=.*\.\."
)
OUTSIDE = "leads out of the folder of configuration files, to files that nobody has checked"
NODES = 20_000  # most values that one file may have; all files of conf/ have about a thousand


def refuse_code(words: Sequence[str]) -> None:
    """Raises InputError with each argument in `words` and each key in a configuration file that could run code."""
    refused = "is refused: it would let Hydra import and call what it names"
    problems = [f"{word} {refused}" for word in words if WORDS.match(word)]
    problems += [f"{flag} {value} {refused}" for flag, value in _given(words, PICKLES)]
    problems += [
        f"{flag} {value} {OUTSIDE}; name a file of that folder" for flag, value in _given(words, NAMES) if ".." in value
    ]
    named = [value for _, value in _given(words, FOLDERS)]
    problems += [f"{value} {refused}" for value in named if "://" in value]
    script = Path(sys.argv[0]).absolute().parent  # Hydra reads a relative --config-path from here
    folders = (place for value in named for place in (Path(value).expanduser().absolute(), script / value))
    for folder in dict.fromkeys((CONF, *folders)):
        for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
            problems += file_problems(file, folder)
    if problems:
        raise InputError(problems)


def file_problems(file: Path, folder: Path) -> list[str]:
    """Returns the reasons to refuse a file below `folder`: unreadable, more than NODES values, or forbidden keys."""
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, LOADER)  # safe: plain values only, no tags
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        return [f"{file} cannot be read as YAML: {' '.join(str(error).split())}"]
    code = "names a Python object to call, or calls a resolver, which no configuration file may do"
    try:
        problems = [f"{file}: {where} {code}" for where in _code(content)]
    except OverflowError:
        return [f"{file} has more than {NODES:,} values, aliases included"]
    parts = file.relative_to(folder).parts
    # files in conf/hydra/launcher hold plain values, which cwpo.execution.cluster reads
    own = folder == CONF and parts[:2] == ("hydra", "launcher")
    inside = (parts[0] == "hydra" and not own) or re.search(r"@package\s+\S*hydra", text)
    top = content if isinstance(content, dict) else {}
    if inside or re.search(r"@[^'\"]*hydra", str(top.get("defaults") or "")):
        problems.append(f"{file} writes into Hydra's own configuration")
    if ".." in str(top.get("defaults") or ""):
        problems.append(f"{file}: its defaults list {OUTSIDE}")
    allowed = OURS if folder.resolve() == CONF.resolve() else THEIRS
    may = f"is Hydra's; a file may set {', '.join(f'hydra.{name}' for name in allowed)}"
    return problems + [f"{file}: {key} {may}" for key in _not_ours(top.get("hydra"), allowed, "hydra")]


def _given(words: Sequence[str], flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (flag as typed, its value) of each of `flags` in `words`; Hydra takes the beginning of a long flag too."""
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if name in flags or (name[:2] == "--" and len(name) > 2 and any(flag.startswith(name) for flag in flags)):
            yield name, value if equals else following


def _code(node: Any) -> Iterator[str]:
    """Yields the dotted keys of parsed YAML that make Hydra call a Python object, or whose value calls a resolver.

    Raises OverflowError if there are more than NODES values.
    """
    stack = [("", node)]
    for _ in range(NODES + 1):
        if not stack:
            return
        path, here = stack.pop()
        if isinstance(here, dict):
            inner = [(f"{path}.{key}" if path else str(key), key, value) for key, value in here.items()]
            yield from (at for at, key, _ in inner if key in CODE or any(f"{c}:" in str(key) for c in CODE))
            stack += [(at, value) for at, _, value in inner]
        elif isinstance(here, str) and RESOLVER.search(here):
            yield path
        elif isinstance(here, list):
            stack += [(f"{path}[{index}]", value) for index, value in enumerate(here)]
    raise OverflowError


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
