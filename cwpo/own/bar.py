"""Progress of work that takes more than some seconds: a bar with the time left on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between lines


@contextmanager
def bar(title: str, say: Callable[[str], None]) -> Iterator[Callable[[int, int], None]]:
    """A function of the units done and their total. Where there is no terminal, `say` gets the title, then the lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(title)
        yield _Lines(title, say)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Lines:
    """Says the share that is done and the time left, at most every ten seconds."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self.title, self.say = title, say
        self.begun = self.spoken = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.spoken < EVERY or not done:
            return
        self.spoken = now
        left = (now - self.begun) / done * (total - done)
        self.say(f"{self.title}: {done:,} of {total:,}, about {left:.0f} s left")
