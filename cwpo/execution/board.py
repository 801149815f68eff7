"""Shows the progress of a sweep: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cwpo.pipeline.graph import Node


class Board:
    """Stage i of n, the number of cached stages and the time left. A context manager around the sweep.

    `watch` is called with each finished stage.
    """

    def __init__(self, total: int, cached: int, title: str, watch: Callable[[Node], None]) -> None:
        self.watch = watch
        self.console = Console(stderr=True)
        self.total, self.cached, self.finished, self.title = total, cached, cached, title
        self.begun = self.spoken = time.monotonic()
        self.current = ""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("stage {task.completed} of {task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Board:
        note = f"{self.cached} of {self.total} stages cached"
        self.task = self.bar.add_task(self.title or "run", total=self.total, completed=self.cached, note=note)
        self.bar.start()
        self._say(note)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, node: Node) -> None:
        self.current = node.name
        self.bar.update(self.task, note=self._note(node.name))

    def within(self, done: int, total: int) -> None:
        """Progress inside the one stage that runs in this process."""
        self.bar.update(self.task, note=f"{self._note(self.current)} {done}/{total}")
        self._line(f"{self.current} {done}/{total}")

    def finish(self, node: Node) -> None:
        self.finished += 1
        self.bar.update(self.task, completed=self.finished, note=self._note(node.name))
        if self.finished == self.total:
            self.spoken = 0.0
        self._line(self._note(node.name))
        self.watch(node)

    def _note(self, name: str) -> str:
        done = self.finished - self.cached
        enough = done >= max(
            3, (self.total - self.cached) / 20
        )  # the first stages, imports included, mislead
        left = (time.monotonic() - self.begun) / done * (self.total - self.finished) if enough else None
        return f"{name} · {self.cached} cached" + (
            f" · about {_minutes(left)} left" if left is not None else ""
        )

    def _line(self, text: str) -> None:
        if not self.console.is_terminal and time.monotonic() - self.spoken > 10:
            self._say(text)

    def _say(self, text: str) -> None:
        if not self.console.is_terminal:
            self.spoken = time.monotonic()
            prefix = f"{self.title}: " if self.title else ""
            print(
                f"{prefix}stage {self.finished} of {self.total} · {text}", file=self.console.file, flush=True
            )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
