"""Exceptions for input the user can fix, and in plain words what a disk can refuse."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence


class InputError(ValueError):
    """Wrong input. Carries every problem found, each naming the value, the reason and the fix; exit code 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return (type(self), (self.problems,))


class LeftOut(Exception):
    """A row of a table that holds no usable pair; its text is the reason, which is counted."""


class WrongRow(Exception):
    """A row of a table with values of a wrong kind: the problem, as "have ...; the fix", and the values that messages show."""

    def __init__(self, problem: str, *values: object) -> None:
        self.problem, self.values = problem, values
        super().__init__(problem)


# What a disk says -> the same in plain words, with the fix. Libraries hand it on as text.
REFUSALS = {
    errno.ENOSPC: "no space is left there; free some",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "it is read-only; make it writable, or name another folder",
    errno.EACCES: "permission is denied; make it writable, or name another folder",
    errno.EPERM: "the operation is not permitted; make it writable, or name another folder",
    errno.EIO: "the device reports an input/output error; check it",
}
AS_TEXT = {
    errno.ENOSPC: r"No space left on device|\b(os error|errno) 28\b",
    errno.EDQUOT: r"[Dd]isk quota exceeded",
    errno.EROFS: r"Read-only file system",
}


def disk_problem(error: BaseException) -> str | None:
    """What a disk refused, in plain words, if that is what the error or one of its causes is about; else None."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            return REFUSALS[cause.errno]
    for cause in _causes(error):
        for code, pattern in AS_TEXT.items():
            if re.search(pattern, str(cause)):
                return REFUSALS[code]
    return None


def disk_place(error: BaseException) -> str | None:
    """The file or folder that a disk refused to read or write, where the error says so."""
    names = (cause.filename for cause in _causes(error) if isinstance(cause, OSError))
    return next((str(name) for name in names if name is not None), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
