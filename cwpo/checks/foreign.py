"""Refuses configuration files that could run code: a file from a third party may only set values.

Hydra calls the functions that a file names under hydra.callbacks, hydra.job_logging and similar keys before our own
code runs. So all files of conf/ and of the folders that the command line names are checked first.
"""

import itertools
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
# The keys below `hydra` that a file may set, and those that only a file of conf/ may set, such as output folders.
THEIRS = ("mode", "sweeper.params")
OURS = (*THEIRS, "output_subdir", "run.dir", "sweep.dir", "sweep.subdir", "job.chdir", "job_logging.root.level")
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
    if next(itertools.islice(_nodes(content), NODES, None), None):  # an alias of what contains it never ends
        return [f"{file} has more than {NODES:,} values, aliases included"]
    nodes = list(_nodes(content))
    code = "names a Python object to call, or calls a resolver, which no configuration file may do"
    problems = [f"{file}: {where} {code}" for where, key, value in nodes if _is_code(key, value)]
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
    values = (where for where, _, value in nodes if value is not None and not isinstance(value, dict))
    hydras = [where for where in values if f"{where}.".startswith("hydra.")]
    free = tuple(f"hydra.{name}." for name in allowed)
    return problems + [f"{file}: {where} {may}" for where in hydras if not f"{where}.".startswith(free)]


def _given(words: Sequence[str], flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (flag as typed, its value) of each of `flags` in `words`; Hydra takes the beginning of a long flag too."""
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if name in flags or (name[:2] == "--" and len(name) > 2 and any(flag.startswith(name) for flag in flags)):
            yield name, value if equals else following


def _nodes(content: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted key, key or index, value) of everything in parsed YAML, also of mappings and lists themselves."""
    stack: list[tuple[str, Any, Any]] = [("", None, content)]
    while stack:
        path, key, here = stack.pop()
        yield path, key, here
        if isinstance(here, dict):
            stack += [(f"{path}.{name}" if path else str(name), name, value) for name, value in here.items()]
        elif isinstance(here, list):
            stack += [(f"{path}[{index}]", index, value) for index, value in enumerate(here)]


def _is_code(key: Any, value: Any) -> bool:
    """Whether Hydra would call a Python object that the value names, or a resolver in the value."""
    names_code = key in CODE or any(f"{word}:" in str(key) for word in CODE)
    return names_code or (isinstance(value, str) and bool(RESOLVER.search(value)))
