"""Errors that users see as one message without a traceback, and disk errors in plain words."""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple


class CwpoError(Exception):
    """An error whose message says all that the user needs; a command that raises it exits with `exit_code`."""

    exit_code: ClassVar[int] = 1


class Problem(NamedTuple):
    """A problem with the value of the dotted config key `key`. The text names the value, the reason and the fix."""

    key: str
    text: str

    def __str__(self) -> str:
        return self.text


class InputError(CwpoError, ValueError):
    """Raised for wrong input. Its message joins `problems`, each a text with the value, the reason and the fix."""

    exit_code = 2

    def __init__(self, problems: str | Problem | Sequence[str | Problem]) -> None:
        several = [problems] if isinstance(problems, str | Problem) else problems
        self.problems = [str(problem) for problem in several]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return (type(self), (self.problems,))


class TextError(InputError):
    """Raised for a text that cannot be read. `index`: its position in the list of texts; `reason`: fault and fix."""

    def __init__(self, index: int, reason: str) -> None:
        self.index, self.reason = index, reason
        super().__init__(f"row {index}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return (type(self), (self.index, self.reason))


def nearest(value: object, valid: Iterable[str]) -> str:
    """Returns a hint like "did you mean dpo? valid: dpo, ipo"; no question if nothing resembles `value`."""
    options, given = list(valid), str(value)
    close = [option for option in options if given and option.startswith(given)]
    close = close or difflib.get_close_matches(given, options, n=1)
    return (f"did you mean {close[0]}? " if close else "") + "valid: " + ", ".join(options)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class LeftOut(Exception):
    """Raised for a table row without a usable pair. Its message is a short reason; rows are counted by reason."""


class WrongRow(Exception):
    """Raised for a wrong table row. `values`: what to show of the row; `problem`: "have <what is wrong>; <fix>".

    Users see all rows with the same problem in one message: "rows 3 (<values>), 7 (<values>) <problem>".
    """

    def __init__(self, problem: str, *values: object) -> None:
        self.problem, self.values = problem, values
        super().__init__(problem)


# Error number of a disk error -> the reason and the fix in plain words.
REFUSALS = {
    errno.ENOSPC: "no space is left there; free some",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "files may not be that large there; raise the limit (ulimit -f), or name a folder on another disk",
    errno.EROFS: "it is read-only; make it writable, or name another folder",
    errno.EACCES: "permission is denied; make it writable, or name another folder",
    errno.EPERM: "the operation is not permitted; make it writable, or name another folder",
    errno.EIO: "the device reports an input/output error; check it",
}
# Error number -> pattern of the error's text, for errors of libraries that have no number.
AS_TEXT = {
    errno.ENOSPC: r"No space left on device|\b(os error|errno) 28\b",
    errno.EDQUOT: r"[Dd]isk quota exceeded",
    errno.EFBIG: r"File too large|\b(os error|errno) 27\b",
    errno.EROFS: r"Read-only file system",
}


def disk_problem(error: BaseException) -> str | None:
    """Returns the reason and the fix in plain words if the error or one of its causes is a disk error; else None."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            return REFUSALS[cause.errno]
    for cause in _causes(error):
        for code, pattern in AS_TEXT.items():
            if re.search(pattern, str(cause)):
                return REFUSALS[code]
    return None


def disk_place(error: BaseException) -> str | None:
    """Returns the file or folder that could not be read or written; None if neither the error nor a cause names it."""
    names = (cause.filename for cause in _causes(error) if isinstance(cause, OSError))
    return next((str(name) for name in names if name is not None), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
