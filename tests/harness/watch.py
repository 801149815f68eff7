"""What happens in folders, as it happens (Linux inotify), so that a kill can be aimed at a write under way."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

CREATED, MOVED_HERE, IS_FOLDER = 0x100, 0x80, 0x40000000
HEADER = struct.Struct("iIII")  # watch, mask, cookie, length of the name


class Watch:
    """Names that appear in `folders` and in the folders that appear there. The folders are made if need be."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._folders: dict[int, Path] = {}
        self._seen: deque[Path] = deque()
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
                self._add(place)

    def _add(self, folder: Path) -> None:
        watch = self._libc.inotify_add_watch(self._handle, bytes(folder), CREATED | MOVED_HERE)
        if watch >= 0:  # else it is gone already
            self._folders[watch] = folder

    def pending(self) -> Iterator[Path]:
        """What has appeared and was not handed out yet."""
        self._seen.extend(self._read())
        while self._seen:
            yield self._seen.popleft()

    def _read(self) -> Iterator[Path]:
        try:
            data = os.read(self._handle, 1 << 16)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = HEADER.unpack_from(data, offset)
            start = offset + HEADER.size
            offset = start + length
            name = data[start:offset].rstrip(b"\0").decode()
            folder = self._folders.get(watch)
            if folder is None or not name:
                continue
            path = folder / name
            yield path
            if mask & IS_FOLDER:
                self._add(path)
                with suppress(OSError):
                    yield from sorted(path.iterdir())  # what was faster than the watch

    def wait(self, wanted: Callable[[Path], bool], going: Callable[[], bool], timeout: float = 60) -> Path | None:
        """The first path that is `wanted`; None when `going` says no more, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for path in self.pending():
                if wanted(path):
                    return path
            if not select.select([self._handle], [], [], 0.05)[0] and not going():
                return None
        return None

    def close(self) -> None:
        os.close(self._handle)
