"""Runs stages as jobs with submitit, on Slurm or on this machine, with the settings of conf/hydra/launcher.

The syntax is Hydra's: hydra/launcher=submitit_slurm hydra.launcher.partition=gpu. But each job here is one stage. With
Hydra's own launchers a job would be one configuration of the sweep, and all that share a stage would compute it.
"""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cwpo.config.schema import CONF
from cwpo.errors import CwpoError, InputError, first_line, nearest
from cwpo.execution.levels import Submit
from cwpo.execution.node import Settings
from cwpo.execution.workers import Failed, run_stage
from cwpo.pipeline.graph import Node
from cwpo.runtime import quiet_libraries, use_threads

CHOICE, SETTING = "hydra/launcher=", "hydra.launcher."
FOLDER = CONF / "hydra" / "launcher"
BASIC = "basic"  # no launcher: this command starts worker processes, see cwpo.execution.workers
# Settings that submitit has for every kind of executor. The names of all others begin with the kind: slurm_partition.
COMMON = "timeout_min cpus_per_task gpus_per_node tasks_per_node mem_gb nodes name stderr_to_stdout".split()
POLL = 1.0  # seconds between two looks at the jobs


def chosen(words: Sequence[str]) -> tuple[Submit | None, list[str]]:
    """Returns the launcher that the arguments `words` choose, or None (worker processes), and the other arguments."""
    name, settings, rest = BASIC, [], []
    for word in words:
        if word.startswith(CHOICE):
            name = word.removeprefix(CHOICE)
        elif word.lstrip("+").startswith(SETTING):
            settings.append(word.lstrip("+"))
        else:
            rest.append(word)
    if name == BASIC and settings:
        raise InputError(f"{settings[0]} needs hydra/launcher=<name>; {nearest('', choices())}")
    given = OverridesParser.create().parse_overrides(settings)
    if several := [each.input_line for each in given if each.is_sweep_override()]:
        raise InputError([f"{word} is several values; a launcher takes one" for word in several])
    values = {each.get_key_element().removeprefix(SETTING): each.value() for each in given}
    return (None if name == BASIC else launcher(name, values)), rest


def choices() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launcher(name: str, values: Mapping[str, Any]) -> Submit:
    """Returns the launcher of conf/hydra/launcher/<name>.yaml; `values`, by dotted key, replace those of the file.

    Raises InputError if the name or a key is unknown, if submitit or Slurm is missing, or if submitit refuses a value.
    """
    if name not in choices():
        raise InputError(f"hydra/launcher={name} is unknown; {nearest(name, [BASIC, *choices()])}")
    params = OmegaConf.load(FOLDER / f"{name}.yaml")
    assert isinstance(params, DictConfig)
    unknown = [key for key in values if key.partition(".")[0] not in params]
    problems = [f"unknown key hydra.launcher.{key}; {nearest(key, map(str, params))}" for key in unknown]
    if find_spec("submitit") is None:
        problems.append(f"hydra/launcher={name} needs the package submitit; pip install 'cwpo[slurm]'")
    if name == "submitit_slurm" and shutil.which("sbatch") is None:
        problems.append("hydra/launcher=submitit_slurm needs Slurm's sbatch on this machine to submit jobs")
    if problems:
        raise InputError(problems)
    for key, value in values.items():
        OmegaConf.update(params, key, value, force_add=True)
    plain: Any = OmegaConf.to_container(params)
    submit = Submitit(name.removeprefix("submitit_"), plain)
    try:
        with tempfile.TemporaryDirectory() as folder:
            submit.executor(Path(folder))
    except (AssertionError, ValueError) as error:  # its message names the setting and its type
        raise InputError(f"hydra/launcher={name}: {first_line(error)}") from error
    return submit


@dataclass(frozen=True)
class StageJob:
    """The function that a job calls: it runs one stage and returns (whether it was computed now, its error or None)."""

    settings: Settings

    def __call__(self, node: Node) -> tuple[bool, BaseException | None]:
        use_threads(self.settings.threads)
        quiet_libraries()
        try:
            return run_stage(node, self.settings), None
        except CwpoError as error:
            return False, error

    def checkpoint(self, node: Node) -> Any:
        """Returns the job, to be queued again. submitit calls this when the job's time is up or it is pre-empted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, node)


@dataclass(frozen=True)
class Submitit:
    """Runs stages as jobs of submitit. `kind`: slurm or local; `params`: named as in hydra-submitit-launcher."""

    kind: str
    params: Mapping[str, Any]

    def __call__(self, nodes: Sequence[Node], settings: Settings) -> Iterator[tuple[Node, BaseException | None]]:
        gpus = self.params.get("gpus_per_node") or settings.processes
        if settings.launch != "none" and settings.device != "cpu" and gpus < settings.processes:
            raise InputError(
                f"processes={settings.processes} needs as many GPUs, but a job has hydra.launcher.gpus_per_node={gpus}; set "
                f"hydra.launcher.gpus_per_node={settings.processes}"
            )
        store = Path(settings.store).expanduser().absolute()  # a job may run in another directory
        job = StageJob(dataclasses.replace(settings, store=str(store)))
        jobs = self.executor(store / ".hydra" / "submitit" / "%j").map_array(job, list(nodes))
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

    def executor(self, folder: Path) -> Any:
        """Returns submitit's executor. The jobs' files go to params["submitit_folder"] or, without it, to `folder`."""
        import submitit

        given = {name: value for name, value in self.params.items() if value is not None}
        folder = given.pop("submitit_folder", folder)
        first = {f"{self.kind}_max_num_timeout": given.pop("max_num_timeout")} if self.kind == "slurm" else {}
        executor = submitit.AutoExecutor(folder=str(folder), cluster=self.kind, **first)
        names = {name: name if name in COMMON else f"{self.kind}_{name}" for name in given}
        executor.update_parameters(**{names[name]: value for name, value in given.items()})
        return executor


def _outcome(job: Any, node: Node) -> BaseException | None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result()[1]
    except (FailedJobError, UncompletedJobError) as error:
        lines = [line for line in str(error).splitlines() if line.strip() and set(line) != {"-"}]
        return Failed(
            f"stage {node.name} ({node.key}): job {job.job_id} ended without a result, state {job.state}; "
            f"log: {job.paths.stderr} ({lines[0] if lines else type(error).__name__})"
        )
