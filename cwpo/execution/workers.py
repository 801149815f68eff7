"""Runs the stages of arms, every distinct stage once, in this process or in worker processes that stay alive."""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from cwpo.checks.reading import items
from cwpo.errors import CwpoError, InputError, disk_place, disk_problem
from cwpo.execution.board import Board
from cwpo.execution.node import Settings, run_node
from cwpo.execution.processes import LaunchFailed
from cwpo.pipeline.arms import Arm, distinct
from cwpo.pipeline.graph import Node
from cwpo.runtime import gpu_names, needs_bitsandbytes, pick_device, quiet_libraries, stand_in, stay_loaded, use_threads
from cwpo.store.manifest import StoreError
from cwpo.store.store import Store

INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
TERMINATED = 128 + signal.SIGTERM
GRACE = 1.0  # seconds in which a worker cleans up undisturbed after a signal to stop
JOBS = 2  # worker processes by default on a machine without GPUs
LEAVING = 30.0  # seconds in which an idle worker ends by itself


@dataclass
class Worker:
    """State of a worker process: `busy` while it runs a stage, `stopped` after a SIGINT, `ending` after a SIGTERM."""

    busy: bool = False
    stopped: bool = False
    ending: bool = False
    stopped_at: float = -math.inf  # time.monotonic() of the last SIGINT or SIGTERM, in seconds


_worker = Worker()


class Failed(CwpoError, RuntimeError):
    """Raised if a stage fails. Stages that have finished stay in the store."""


def run_arms(
    arms: Sequence[Arm],
    settings: Settings,
    *,
    jobs: int | None = 1,
    title: str = "",
    watch: Callable[[Node], None] = lambda node: None,
) -> int:
    """Runs every stage of the arms that is not in the store. Returns how many this call and its workers computed.

    Calls `watch` with each stage that finishes. Stages that other processes finish meanwhile do not count as computed.
    `jobs`: the number of worker processes; None: workers_for(settings). With jobs > 1 a stage starts as soon as its
    parents are done and a worker is free. After a failure no stage starts; the error is raised once none runs.
    """
    waiting, board = unfinished(arms, settings, title, watch)
    if not waiting:
        return 0
    jobs = jobs or workers_for(settings)
    with board:
        return run_here(waiting, settings, board) if jobs == 1 else _run_in_workers(waiting, settings, jobs, board)


def workers_for(settings: Settings) -> int:
    """Returns the default number of worker processes: 1 if launch is ddp or fsdp, or if device is cuda:N; otherwise the
    number of GPUs, or JOBS if stages run on CPUs."""
    if settings.launch != "none" or settings.device.startswith("cuda:"):
        return 1
    return (len(gpu_names()) if settings.device in ("auto", "cuda") else 0) or JOBS


def unfinished(
    arms: Sequence[Arm], settings: Settings, title: str, watch: Callable[[Node], None]
) -> tuple[list[Node], Board]:
    """Returns the stages still to compute, parents first, and their Board. Calls Store.clean and print_stand_in."""
    store = Store(settings.store)
    store.clean()
    nodes = distinct(arms)
    waiting = [node for node in nodes if not node.done(store)]
    print_stand_in(waiting, settings)
    return waiting, Board(len(nodes), len(nodes) - len(waiting), title, watch)


def print_stand_in(nodes: Sequence[Node], settings: Settings) -> None:
    """Prints one line if stages ask for bitsandbytes optimisers that cannot run here; plain AdamW replaces these."""
    settings_of = (items(node.config) for node in nodes)
    chosen = {value for key, value in chain.from_iterable(settings_of) if key.endswith("optimizer")}
    named = set(filter(needs_bitsandbytes, chosen))
    line = stand_in(named, pick_device(settings.device), settings.launch == "fsdp") if named else None
    if line:
        print(line, file=sys.stderr, flush=True)


def run_here(nodes: Sequence[Node], settings: Settings, board: Board) -> int:
    """Computes stages in this process, one by one, except any finished elsewhere meanwhile. Returns how many it did."""
    use_threads(settings.threads)
    quiet_libraries()
    if settings.device != "cpu" and gpu_names():
        stay_loaded()  # makes the garbage collection after each stage, which frees GPU memory, faster
    computed = 0
    for node in nodes:
        board.start(node)
        computed += run_stage(node, settings, board.within)
        board.finish(node)
    return computed


def run_stage(node: Node, settings: Settings, progress: Callable[[int, int], None] = lambda d, t: None) -> bool:
    """Runs a stage by run_node. Errors other than InputError and StoreError become Failed, which names the stage."""
    try:
        return run_node(node, settings, progress)
    except (InputError, StoreError):
        raise
    except Exception as error:
        raise _failure(node, settings, error) from error


def _run_in_workers(nodes: Sequence[Node], settings: Settings, jobs: int, board: Board) -> int:
    spawn = multiprocessing.get_context("spawn")
    gpus = gpu_names() if settings.device in ("auto", "cuda") else []
    own = spawn.SimpleQueue()  # each worker takes its GPU, or None, from here
    for number in range(jobs):
        own.put(gpus[number % len(gpus)] if gpus else None)
    pool = ProcessPoolExecutor(jobs, spawn, _start_worker, (settings.threads, own))
    queue = Queue(nodes, settings, board, pool)
    try:
        while queue.waiting or queue.running:
            queue.start(jobs)
            if not queue.running:
                break
            queue.collect()
    except KeyboardInterrupt:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGINT)  # workers clean up the stage under way
        raise
    finally:
        pool.shutdown(wait=bool(queue.running), cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.join(LEAVING)  # it never ends if a worker was killed while it held the pool's lock
            worker.kill()
    if queue.failure is not None:
        raise queue.failure
    return queue.computed


class Queue:
    """Runs stages in a process pool. `waiting`: {key of a stage that has not started: keys of its unfinished parents}.

    After a failure no other stage starts.
    """

    def __init__(self, nodes: Sequence[Node], settings: Settings, board: Board, pool: ProcessPoolExecutor) -> None:
        self.by_key = {node.key: node for node in nodes}
        self.waiting = {
            node.key: {parent.key for parent in node.parents.values()} & self.by_key.keys() for node in nodes
        }
        self.running: dict[Future[Any], Node] = {}
        self.failure: BaseException | None = None
        self.computed = 0
        self.settings, self.board, self.pool = settings, board, pool

    def start(self, jobs: int) -> None:
        """Starts stages whose parents are done, until `jobs` stages run. Those with Stage.early=True start first."""
        if self.failure is not None:
            return
        ready = [self.by_key[key] for key, parents in self.waiting.items() if not parents]
        for node in sorted(ready, key=lambda node: not node.stage.early)[: jobs - len(self.running)]:
            self.board.start(node)
            try:
                with _undisturbed():  # the first call starts the workers
                    self.running[self.pool.submit(_work, node, self.settings)] = node
            except BrokenProcessPool as broken:  # an idle worker has died
                self.failure = _reported(broken, self.settings, [node, *self.running.values()])
                return
            del self.waiting[node.key]
        if not self.running:
            raise RuntimeError(f"{len(self.waiting)} stages cannot start: they wait for one another, or {jobs=} is < 1")

    def collect(self) -> None:
        """Waits until at least one stage has ended, and records whether it finished or failed."""
        for future in wait(self.running, return_when=FIRST_COMPLETED).done:
            node = self.running.pop(future)
            error = future.exception()
            if error is not None:
                self.failure = self.failure or _reported(error, self.settings, [node, *self.running.values()])
                continue
            self.computed += future.result()
            self.board.finish(node)
            for parents in self.waiting.values():
                parents.discard(node.key)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Blocks SIGINT and SIGTERM in the `with` block. Workers started there unblock them when they are ready."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(threads: int, own: Any) -> None:
    if (gpu := own.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.setsid()  # Ctrl-C reaches the parent only, which passes it on once
    signal.signal(signal.SIGINT, _interrupted)  # by default a script's background processes ignore it
    signal.signal(signal.SIGTERM, _terminated)  # from a batch system to all processes, or from the pool
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    sys.unraisablehook = _unraisable
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)
    quiet_libraries()
    stay_loaded()


def _interrupted(*_: object) -> None:
    """Handles SIGINT. An idle worker only sets a flag: if it ended, the pool would kill workers that still clean up."""
    _worker.stopped = True
    if _worker.busy:
        _interrupt()


def _terminated(*_: object) -> None:
    """Handles SIGTERM: ends this worker, after a clean-up if a stage runs. The pool waits for the clean-up."""
    _worker.ending = True
    if not _worker.busy:
        os._exit(TERMINATED)
    _interrupt()


def _interrupt() -> None:
    """Raises KeyboardInterrupt, unless an earlier signal came within GRACE seconds: its clean-up may still run."""
    before, _worker.stopped_at = _worker.stopped_at, time.monotonic()
    if _worker.stopped_at - before > GRACE:
        raise KeyboardInterrupt


def _unraisable(lost: Any) -> None:
    """Repeats a SIGINT whose KeyboardInterrupt Python dropped because it was raised while an object was deleted."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    _worker.stopped_at = -math.inf
    threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()


def _work(node: Node, settings: Settings) -> bool:
    try:
        _worker.busy = True
        if _worker.stopped:
            raise KeyboardInterrupt
        return run_stage(node, settings)
    finally:
        _worker.busy = False
        if _worker.ending:
            os._exit(TERMINATED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _failure(node: Node, settings: Settings, error: BaseException) -> Failed:
    if isinstance(error, LaunchFailed):
        return Failed(f"stage {node.name} ({node.key}) {error}")
    refused = disk_problem(error)
    if refused is None:
        return Failed(f"stage {node.name} ({node.key}) failed: {type(error).__name__}: {error}")
    place = os.path.abspath(disk_place(error) or settings.store)
    return Failed(
        f"stage {node.name} ({node.key}) could not use {place}: {refused}. What is finished stays, and the same command "
        f"goes on from there ({type(error).__name__}: {' '.join(str(error).split())})"
    )


def _reported(error: BaseException, settings: Settings, running: Sequence[Node]) -> BaseException:
    """Returns the exception to raise after stage running[0] ended with `error`. If a worker process died, the message
    names all stages in `running`."""
    if isinstance(error, BrokenProcessPool):
        names = ", ".join(f"{node.name} ({node.key})" for node in running)
        return Failed(
            f"a worker process was killed while these stages ran: {names}. Often memory ran out: use fewer jobs. What "
            "is finished stays, and the same command goes on from there"
        )
    if isinstance(error, CwpoError | KeyboardInterrupt):
        return error
    return _failure(running[0], settings, error)
