"""What scripts/plan.py prints: the stages that a sweep needs, those already finished, jobs by level and GPU-hours."""

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cwpo.errors import InputError
from cwpo.execution.levels import levels
from cwpo.pipeline.arms import Arm, distinct
from cwpo.planning.calibration import calibration_of
from cwpo.planning.gpu_hours import assumptions, stage_hours
from cwpo.store.manifest import StoreError, read_manifest
from cwpo.store.store import Store


@dataclass(frozen=True)
class Plan:
    """Counts and seconds of a sweep, by stage name. `stages` counts distinct stages, `cached` those already finished.

    `naive` counts a stage once for every arm that has it. `seconds`: median of a stage's past runs, None without any.
    """

    stages: Counter[str]
    cached: Counter[str]
    naive: Counter[str]
    seconds: dict[str, float | None]

    def remaining_seconds(self) -> float:
        """Estimated work left, in seconds of one worker; stages that never ran count 0."""
        return sum((count - self.cached[name]) * (self.seconds[name] or 0) for name, count in self.stages.items())

    def naive_seconds(self) -> float:
        """Estimated work of the whole sweep, in seconds of one worker, if every arm computed all its stages itself."""
        return sum(count * (self.seconds[name] or 0) for name, count in self.naive.items())


def make_plan(arms: Sequence[Arm], store: Store) -> Plan:
    """Returns the plan of a sweep. Looks at the store; runs nothing."""
    nodes = distinct(arms)
    stages = Counter(node.stage.name for node in nodes)
    return Plan(
        stages=stages,
        cached=Counter(node.stage.name for node in nodes if node.done(store)),
        naive=Counter(node.stage.name for arm in arms for node in arm.run),
        seconds={name: median_seconds(store, name) for name in stages},
    )


def median_seconds(store: Store, stage: str, sample: int = 20) -> float | None:
    """Median seconds of finished runs of a stage, from at most `sample` manifests; None if none can be read."""
    seconds = []
    for path in itertools.islice((store.root / stage).glob("*/manifest.json"), sample):
        with suppress(StoreError):
            seconds.append(read_manifest(path.parent)["seconds"])
    return statistics.median(seconds) if seconds else None


def level_lines(arms: Sequence[Arm], store: Store) -> list[str]:
    """Returns a line for each level, a set of jobs that can run at once: its unfinished jobs, in all and by stage."""
    waiting = [node for node in distinct(arms) if not node.done(store)]
    lines = []
    for number, level in enumerate(levels(waiting), 1):
        jobs, light = (Counter(node.stage.name for node in nodes) for nodes in (level.jobs, level.light))
        before = f", after {_counts(light)} where the command runs" if light else ""
        lines.append(f"level {number}: {len(level.jobs)} jobs ({_counts(jobs) or 'none'}){before}")
    return lines


def hour_lines(arms: Sequence[Arm], store: Store) -> list[str]:
    """Returns lines: the GPU-hours left and what they assume, or why none are known; [] if plan.tflops is null."""
    if arms[0].cfg.plan.tflops is None:
        return []
    waiting = [node for node in distinct(arms) if not node.done(store)]
    measured = calibration_of(store.root)
    try:
        hours = {name: value for name, value in stage_hours(arms, waiting, measured).items() if value}
    except InputError as error:  # e.g. for a local copy of a model: plan.parameters lacks its size
        return [f"GPU-hours are not estimated: {error}"]
    parts = ", ".join(f"{name} {value:,.1f}" for name, value in hours.items())
    return [
        f"about {sum(hours.values()):,.1f} GPU-hours left: {parts or 'none'}",
        f"assumed: {assumptions(arms, measured)}",
    ]


def _counts(stages: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in stages.items())
