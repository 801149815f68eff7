"""What runs the jobs of a level: joblib's processes, or submitit's jobs, on Slurm or here. conf/hydra/launcher sets them up.

A launcher is chosen as Hydra's are, hydra/launcher=submitit_slurm hydra.launcher.partition=gpu, but it is given stages, each
once, and not arms; Hydra's own launchers would let every job compute, or wait for, what it shares with others.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cwpo.checks.settings import nearest
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.execution.levels import Submit
from cwpo.execution.node import Settings
from cwpo.execution.workers import Failed, run_stage
from cwpo.pipeline.graph import Node
from cwpo.runtime import quiet_libraries, use_threads
from cwpo.store.manifest import StoreError

CHOICE, SETTING = "hydra/launcher=", "hydra.launcher."
FOLDER = CONF / "hydra" / "launcher"
BASIC = "basic"  # Hydra's own: worker processes of this command, see cwpo.execution.workers
# Names that submitit has for every kind of executor; the others it wants with that of the kind before them.
COMMON = (
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)
POLL = 1.0  # seconds


def chosen(words: Sequence[str]) -> tuple[Submit | None, list[str]]:
    """The launcher that a command line names, None for none, and the words without those about it."""
    name, settings, rest = BASIC, [], []
    for word in words:
        if word.startswith(CHOICE):
            name = word.removeprefix(CHOICE)
        elif word.lstrip("+").startswith(SETTING):
            settings.append(word.lstrip("+"))
        else:
            rest.append(word)
    if name == BASIC and settings:
        raise InputError(f"{settings[0]} needs hydra/launcher=; {nearest('', choices())}")
    values = {
        given.get_key_element().removeprefix(SETTING): given.value()
        for given in OverridesParser.create().parse_overrides(settings)
    }
    return (None if name == BASIC else launcher(name, values)), rest


def choices() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launcher(name: str, values: Mapping[str, Any]) -> Submit:
    """The launcher of that file of conf/hydra/launcher, with `values` (dotted keys) in place of its own."""
    if name not in choices():
        raise InputError(f"hydra/launcher={name} is unknown; {nearest(name, [BASIC, *choices()])}")
    params = OmegaConf.load(FOLDER / f"{name}.yaml")
    assert isinstance(params, DictConfig)
    problems = [
        f"unknown key hydra.launcher.{key}; {nearest(key, map(str, params))}"
        for key in values
        if key.partition(".")[0] not in params
    ]
    package = name.partition("_")[0]
    if find_spec(package) is None:
        problems.append(f"hydra/launcher={name} needs the package {package}; pip install 'cwpo[slurm]'")
    if name == "submitit_slurm" and shutil.which("sbatch") is None:
        problems.append(
            "hydra/launcher=submitit_slurm needs Slurm's sbatch on this machine, where jobs are submitted"
        )
    if problems:
        raise InputError(problems)
    for key, value in values.items():
        OmegaConf.update(params, key, value, force_add=True)
    plain: Any = OmegaConf.to_container(params)
    return Joblib(plain) if package == "joblib" else Submitit(name.partition("_")[2], plain)


@dataclass(frozen=True)
class StageJob:
    """What a job does with a stage: whether it computed it, and the error that ended it. Stopped, it is queued again."""

    settings: Settings

    def __call__(self, node: Node) -> tuple[bool, BaseException | None]:
        use_threads(self.settings.threads)
        quiet_libraries()
        try:
            return run_stage(node, self.settings), None
        except (InputError, StoreError, Failed) as error:
            return False, error

    def checkpoint(self, node: Node) -> Any:
        """submitit calls this when time is up or the job is pre-empted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, node)


@dataclass(frozen=True)
class Joblib:
    """Processes of joblib, with its own parameters."""

    params: Mapping[str, Any]

    def __call__(
        self, nodes: Sequence[Node], settings: Settings
    ) -> Iterator[tuple[Node, BaseException | None]]:
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        by_key, job = {node.key: node for node in nodes}, StageJob(_anywhere(settings))
        pool = Parallel(return_as="generator_unordered", **self.params)
        try:
            for key, error in pool(delayed(_keyed)(job, node) for node in nodes):
                yield by_key.pop(key), error
        except TerminatedWorkerError as error:
            names = ", ".join(f"{node.name} ({node.key})" for node in by_key.values())
            raise Failed(f"a process was killed while these stages ran or waited: {names}") from error


def _keyed(job: StageJob, node: Node) -> tuple[str, BaseException | None]:
    return node.key, job(node)[1]


@dataclass(frozen=True)
class Submitit:
    """Jobs of submitit, `kind` slurm or local, with the parameters of hydra-submitit-launcher."""

    kind: str
    params: Mapping[str, Any]

    def __call__(
        self, nodes: Sequence[Node], settings: Settings
    ) -> Iterator[tuple[Node, BaseException | None]]:
        jobs = self._executor(settings).map_array(StageJob(_anywhere(settings)), list(nodes))
        open_jobs = dict(zip(jobs, nodes, strict=True))
        try:
            while open_jobs:
                for job in [job for job in open_jobs if job.done()]:
                    node = open_jobs.pop(job)
                    yield node, _outcome(job, node)
                time.sleep(POLL if open_jobs else 0)
        finally:
            for job in open_jobs:
                job.cancel(check=False)

    def _executor(self, settings: Settings) -> Any:
        import submitit

        given = {name: value for name, value in self.params.items() if value is not None}
        folder = given.pop(
            "submitit_folder", Path(settings.store).expanduser() / ".hydra" / "submitit" / "%j"
        )
        first = {f"{self.kind}_max_num_timeout": given.pop("max_num_timeout")} if self.kind == "slurm" else {}
        executor = submitit.AutoExecutor(folder=str(folder), cluster=self.kind, **first)
        executor.update_parameters(
            **{name if name in COMMON else f"{self.kind}_{name}": value for name, value in given.items()}
        )
        return executor


def _outcome(job: Any, node: Node) -> BaseException | None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result()[1]
    except (FailedJobError, UncompletedJobError) as error:
        said = [line for line in str(error).splitlines() if line.strip() and set(line) != {"-"}]
        return Failed(
            f"stage {node.name} ({node.key}): job {job.job_id} ended without an answer, state {job.state}; "
            f"log: {job.paths.stderr} ({said[0] if said else type(error).__name__})"
        )


def _anywhere(settings: Settings) -> Settings:
    """Settings that mean the same in another folder."""
    return dataclasses.replace(settings, store=str(Path(settings.store).expanduser().absolute()))
