"""Starts each command; turns every expected error into one message and an exit code, and ends cleanly on Ctrl-C."""

import atexit
import functools
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cwpo.checks.foreign import refuse_code
from cwpo.commands.checks import check_command
from cwpo.commands.hydra_errors import explain
from cwpo.commands.words import as_typed, refuse_sweep, schema_in_use
from cwpo.config.commands import COMMANDS, register
from cwpo.errors import CwpoError, InputError, disk_place, disk_problem
from cwpo.plain import shown
from cwpo.runtime import spin_briefly

INTERRUPTED = 130
GO_ON = "what is finished stays, and the same command goes on from there"


@contextmanager
def plain_words() -> Iterator[None]:
    """Ends the process with one message and an exit code if the `with` block raises an expected error.

    These are CwpoError, errors of Hydra and OmegaConf, a disk that is full or refuses access, and Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_say(f"stopped; {GO_ON}", INTERRUPTED))
    except CwpoError as error:
        problems = error.problems if isinstance(error, InputError) else [str(error)]
        # A line break in a name or value must not begin a line that looks like a message of its own.
        sys.exit(_say("\n".join("error: " + text.replace("\n", "\\n") for text in problems), error.exit_code))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and not _is_hydra(error):
            raise
        sys.exit(_say(f"error: {explain(error)}", InputError.exit_code))
    except OSError as error:
        refused = disk_problem(error)
        if refused is None:
            raise
        place = disk_place(error) or "a file"
        sys.exit(_say(f"error: {place} cannot be used: {refused}; {GO_ON}", CwpoError.exit_code))


def entry(main: Callable[[], Any]) -> Callable[[], None]:
    """Returns the entry point of a command: it registers the schemas, checks and quotes the arguments, runs `main`."""

    def run() -> None:
        register()
        spin_briefly()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra pass errors on to plain_words
        sys.excepthook = _say_traceback
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM acts as Ctrl-C
        atexit.register(gc.freeze)  # skips the last garbage collection at exit
        with plain_words():
            refuse_code(sys.argv[1:])
            refuse_sweep(sys.argv[1:], schema_in_use())
            sys.argv[1:] = as_typed(sys.argv[1:], schema_in_use())
            main()

    return run


def job(task: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wraps a Hydra task, a function of the composed configuration, so that plain_words and not Hydra handles errors.

    The wrapper checks the configuration before the task runs, without the hub. It does not check that of `run`.
    """

    @functools.wraps(task)
    def run(cfg: Any) -> Any:
        with plain_words():
            for command, schema in COMMANDS.items():
                if OmegaConf.get_type(cfg) is schema:
                    check_command(cfg, command, ask_hub=False)
            return task(cfg)

    return run


def _is_hydra(error: BaseException) -> bool:
    """Whether Hydra, OmegaConf or their parser raised the error; some of their errors are plain ValueErrors."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].partition(".")[0] in ("hydra", "omegaconf", "antlr4")


def _say(text: str, code: int) -> int:
    print(shown(text), file=sys.stderr)
    return code


def _say_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, where))))
