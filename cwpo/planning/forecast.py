"""Lines that scripts/plan.py prints after the counts: the unfinished jobs of each level, and GPU-hours."""

from collections import Counter
from collections.abc import Sequence

from cwpo.errors import InputError
from cwpo.execution.levels import levels
from cwpo.pipeline.arms import Arm, distinct
from cwpo.planning.calibration import calibration_of
from cwpo.planning.gpu_hours import assumptions, stage_hours
from cwpo.store.store import Store


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
    waiting = {node.key for node in distinct(arms) if not node.done(store)}
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
