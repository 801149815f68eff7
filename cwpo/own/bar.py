"""Shows the progress of long work: on a terminal a bar with the time left, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between lines


@contextmanager
def bar(title: str, say: Callable[[str], None]) -> Iterator[Callable[[int, int], None]]:
    """Yields a function of (units done, units in all) that moves a bar; without a terminal it passes lines to `say`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(title)
        begun = spoken = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal spoken
            now = time.monotonic()
            if done and now - spoken >= EVERY:
                spoken = now
                say(f"{title}: {done:,} of {total:,}, about {(now - begun) / done * (total - done):.0f} s left")

        yield tell
        return
    remaining = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), remaining, console=console
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
