"""Shows the progress of a sweep: by a bar on a terminal, elsewhere by a line every ten seconds."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cwpo.pipeline.graph import Node

EVERY = 10.0  # seconds between two lines


class Board:
    """Shows stage i of n, the number of cached stages and the time left, in a `with` block around the sweep.

    Calls `watch` with each stage that finishes.
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

    def __enter__(self) -> "Board":
        note = f"{self.cached} of {self.total} stages cached"
        self.task = self.bar.add_task(self.title or "run", total=self.total, completed=self.cached, note=note)
        self.bar.start()
        self._line(note, at_once=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, node: Node) -> None:
        self.current = node.name
        self.bar.update(self.task, note=self._note(node.name))

    def within(self, done: int, total: int) -> None:
        """Shows the progress inside the one stage that runs in this process."""
        self.bar.update(self.task, note=f"{self._note(self.current)} {done}/{total}")
        self._line(f"{self.current} {done}/{total}")

    def finish(self, node: Node) -> None:
        self.finished += 1
        note = self._note(node.name)
        self.bar.update(self.task, completed=self.finished, note=note)
        self._line(note, at_once=self.finished == self.total)
        self.watch(node)

    def _note(self, name: str) -> str:
        done, wanted = self.finished - self.cached, self.total - self.cached
        note = f"{name} · {self.cached} cached"
        if done < max(3, wanted / 20):  # too early for an estimate: the first stages include imports
            return note
        seconds = (time.monotonic() - self.begun) / done * (wanted - done)
        return f"{note} · about {f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.0f} min'} left"

    def _line(self, text: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if self.console.is_terminal or not (at_once or now - self.spoken > EVERY):
            return
        self.spoken = now
        prefix = f"{self.title}: " if self.title else ""
        line = f"{prefix}stage {self.finished} of {self.total} · {text}"
        print(line, file=self.console.file, flush=True)
