"""Counts the stages that a sweep needs and those already finished, and estimates the time of the rest."""

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cwpo.pipeline.arms import Arm, distinct
from cwpo.store.manifest import StoreError, read_manifest
from cwpo.store.store import Store


@dataclass(frozen=True)
class Plan:
    """Counts and seconds of a sweep, by stage name. `stages` counts distinct stages, `cached` those already finished.

    `naive` counts a stage once for every arm that has it. `seconds`: median of a stage's past runs, None without any.
    """

    arms: int
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
        arms=len(arms),
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
