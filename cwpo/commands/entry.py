"""What every command shares: one clear message and exit code 2 for bad input, a clean end on Ctrl-C."""

from __future__ import annotations

import atexit
import dataclasses
import difflib
import functools
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, get_origin

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.foreign import refuse_code
from cwpo.checks.leaves import wrong_type
from cwpo.checks.settings import nearest
from cwpo.commands.checks import check_command
from cwpo.commands.words import as_typed, kind_of, schema_in_use
from cwpo.config.commands import COMMANDS, register
from cwpo.config.schema import CONF, Config
from cwpo.errors import InputError, disk_place, disk_problem
from cwpo.plain import shown

INTERRUPTED = 130
NO_GROUPS = ("command", "hydra", "accelerate")  # folders of conf/ that hold no choices of a run
GO_ON = "what is finished stays, and the same command goes on from there"


@contextmanager
def plain_words() -> Iterator[None]:
    """Bad input ends with code 2, Ctrl-C with 130, a failed stage with 1, each with one message and no traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_say(f"stopped; {GO_ON}", INTERRUPTED))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(explain(error), 2))
    except ValueError as error:
        if _is_hydra(error):
            sys.exit(_say(explain(error), 2))
        if not _is_input(error):
            raise
        # A line break in a name or value must not start a line that looks like ours.
        problems = getattr(error, "problems", [str(error)])
        sys.exit(_say("\n".join("error: " + problem.replace("\n", "\\n") for problem in problems), 2))
    except RuntimeError as error:
        if type(error).__module__.split(".")[0] != "cwpo":
            raise
        sys.exit(_say(f"error: {error}", 1))
    except OSError as error:
        refused = disk_problem(error)
        if refused is None:
            raise
        sys.exit(_say(f"error: {disk_place(error) or 'a file'} cannot be used: {refused}; {GO_ON}", 1))


def entry(main: Callable[[], Any]) -> Callable[[], None]:
    """A command: registers the schemas, then runs a Hydra `main` in plain words."""

    def run() -> None:
        register()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of Hydra's own report and exit code 1
        sys.excepthook = _say_traceback
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: clean up, say how to go on
        atexit.register(gc.freeze)  # no last search for garbage in what is about to go anyway
        with plain_words():
            refuse_code(sys.argv[1:])
            sys.argv[1:] = as_typed(sys.argv[1:], schema_in_use())
            main()

    return run


def job(task: Callable[[Any], None]) -> Callable[[Any], None]:
    """A Hydra task whose errors are put in plain words before Hydra adds its own to them.

    The configuration of a command other than a run is checked first.
    """

    @functools.wraps(task)
    def run(cfg: Any) -> None:
        with plain_words():
            for command, schema in COMMANDS.items():
                if OmegaConf.get_type(cfg) is schema:
                    check_command(cfg, command)
            task(cfg)

    return run


def _is_hydra(error: BaseException) -> bool:
    """Whether a ValueError was raised while Hydra read the command line."""
    last = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(last) and last[-1].partition(".")[0] in ("hydra", "omegaconf", "antlr4")


def _is_input(error: BaseException) -> bool:
    return isinstance(error, InputError) or type(error).__name__ == "ResultsError"


def _say(text: str, code: int) -> int:
    print(shown(text), file=sys.stderr)
    return code


def _say_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, where))))


def explain(error: Exception) -> str:
    """A Hydra or OmegaConf error as one message with the nearest valid keys or values."""
    text = str(error)
    if text.startswith("Config group override must be"):
        return f"error: {', '.join(groups())} name a file of conf/; none of them can be null or anything but a name"
    if error.__cause__ is not None and isinstance(error.__cause__, OmegaConfBaseException):
        text += "\n" + str(error.__cause__)
    found = re.search(r"[Cc]ould not find '([^'/]+)/([^']*)'", text)
    if found:
        group, choice = found.groups()
        options = text.partition("Available options")[2].partition("Config search path")[0].split()[2:]
        return f"error: {group}={choice} is unknown; {nearest(choice, options)}"
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' not in", text)
    if found:
        full = re.search(r"full_key: (\S+)", text)
        key = full.group(1) if full else found.group(1)
        if "reference_type=Dict[" in text:  # of entries that anyone may add
            return f"error: unknown key {key}; to add it write +{key}=..."
        schema = next(
            (kind for kind in COMMANDS.values() if kind.__name__ in text),
            Config,
        )
        return f"error: unknown key {key}; {_nearest_key(key, schema)}"
    found = re.search(r"Ambiguous value for argument '([^=]+)=([^']*)'", text)
    if found:
        key, values = found.groups()
        schema, several = schema_in_use(), f"error: {key}={values} is several values"
        if get_origin(kind_of(schema, key)) is list:
            return f"{several}; write a list as {key}=[{values}]"
        return f"{several}; add -m to run each of them" if schema is Config else f"{several}; {key} takes one"
    found = re.search(r"LexerNoViableAltException: (.*)", text)
    if found:
        return f"error: cannot read {found.group(1)!r}; write key=value, with quotes inside around a value that has spaces"
    found = re.search(r"no viable alternative at input '(.*)'", text)
    if found:
        return f'error: cannot read {found.group(1)!r}; quote what holds a = inside a list: \'overrides=["seed=0","method=cw_po"]\''
    found = re.search(r"mismatched input '(.*)' expecting", text)
    if found:
        return (
            f"error: cannot read the command line at {found.group(1)!r}; quote a value that holds = , : or brackets: "
            "'key=\"a=b\"'"
        )
    found = re.search(r"Error merging override (.+)\n(.+)", text)
    if found:
        return "error: " + wrong_type(found.group(1), found.group(2).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [
        line
        for line in lines
        if not line.startswith(("full_key:", "object_type=", "See https", "reference_type="))
    ]
    where = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    return "error: " + (f"{where}: " if where else "") + " ".join(kept)


def _nearest_key(key: str, schema: type) -> str:
    """The key that was meant where one is close, and the valid ones beside it."""
    parent, _, leaf = key.rpartition(".")
    keys = sorted({*leaf_keys(schema), *(groups() if schema is Config else [])})
    same_leaf = [k for k in keys if k.split(".")[-1] == leaf]
    close = same_leaf[:3] or difflib.get_close_matches(key, keys, n=1)
    beside = [k for k in keys if parent and k.startswith(f"{parent}.")] or sorted(
        {k.split(".")[0] for k in keys}
    )
    return (f"did you mean {' or '.join(close)}? " if close else "") + "valid: " + ", ".join(beside)


def leaf_keys(node: type = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the configuration."""
    for field in dataclasses.fields(node):  # type: ignore[arg-type]
        kind = field.default_factory if isinstance(field.default_factory, type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            yield from leaf_keys(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def groups() -> list[str]:
    """The choices of conf/: data, pair, method, ..."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NO_GROUPS)
