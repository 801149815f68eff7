"""Runs a sweep level by level, so that no job holds a GPU while it waits for a stage that another job computes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cwpo.execution.board import Board
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_here, unfinished
from cwpo.pipeline.arms import Arm
from cwpo.pipeline.graph import Node

# Starts a job for each stage. Yields (stage, its error or None) whenever a job has ended.
Submit = Callable[[Sequence[Node], Settings], Iterator[tuple[Node, BaseException | None]]]


@dataclass(frozen=True)
class Level:
    """Stages that run after all earlier levels: first `light` (file work, one by one in this process), then `jobs`."""

    light: list[Node]
    jobs: list[Node]


def levels(nodes: Sequence[Node]) -> list[Level]:
    """Returns the levels in running order. `nodes` lists parents before children; parents not in it count as done."""
    height: dict[str, int] = {}
    for node in nodes:
        parents = [p for p in node.parents.values() if p.key in height]
        height[node.key] = max((height[p.key] + (not p.stage.light) for p in parents), default=0)
    by_height = [Level([], []) for _ in range(1 + max(height.values(), default=-1))]
    for node in nodes:
        level = by_height[height[node.key]]
        (level.light if node.stage.light else level.jobs).append(node)
    return by_height


def run_levels(
    arms: Sequence[Arm],
    settings: Settings,
    submit: Submit,
    title: str = "",
    watch: Callable[[Node], None] = lambda node: None,
) -> int:
    """Runs every stage of the arms that is not in the store. Returns how many were missing at the start.

    Calls `watch` with each stage that finishes. All jobs of a level end before the next level begins. If jobs fail, the
    first failure is raised when their level has ended.
    """
    waiting, board = unfinished(arms, settings, title, watch)
    if waiting:
        with board:
            for level in levels(waiting):
                _run_level(level, settings, submit, board)
    return len(waiting)


def _run_level(level: Level, settings: Settings, submit: Submit, board: Board) -> None:
    if level.light:
        run_here(level.light, settings, board)
    failure: BaseException | None = None
    for node, error in submit(level.jobs, settings) if level.jobs else ():
        if error is None:
            board.finish(node)
        else:
            failure = failure or error
    if failure is not None:
        raise failure
