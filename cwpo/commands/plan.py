"""The command `plan`: prints the stages that a run or sweep needs and their cost. It runs nothing."""

from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from cwpo.commands.run import MULTIRUN
from cwpo.commands.sweep import with_references
from cwpo.execution.cluster import CHOICE, SETTING
from cwpo.pipeline.arms import expand
from cwpo.pipeline.experiments import experiments, seeds_of
from cwpo.planning.plan import hour_lines, level_lines, make_plan
from cwpo.planning.preflight.machine import out_of_reach
from cwpo.store.store import Store


def show_plan(overrides: Sequence[str]) -> None:
    """Prints the stages that a run or sweep with these overrides needs, and an estimate of the time.

    If models or data sets cannot be reached, the table is still printed, and a list of the problems follows it.
    """
    from rich.console import Console
    from rich.table import Table

    sweeps = list(_sweeps(overrides))
    arms = [arm for words, seeds in sweeps for arm in expand(words, seeds, look=False)]
    missing = out_of_reach([arm.cfg for arm in arms])
    if not missing:
        arms = [arm for words, seeds in sweeps for arm in with_references(expand(words, seeds), words)[0]]
    store = Store(arms[0].cfg.store)
    plan = make_plan(arms, store)
    table = Table("stage", "distinct", "cached", "to run", "median s", "if every arm ran alone")
    for name, count in plan.stages.items():
        seconds, cached = plan.seconds[name], plan.cached[name]
        median = "never ran" if seconds is None else f"{seconds:.1f}"
        table.add_row(name, str(count), str(cached), str(count - cached), median, str(plan.naive[name]))
    console = Console()
    console.print(table)
    total, naive, jobs = plan.stages.total(), plan.naive.total(), arms[0].cfg.jobs
    console.print(
        f"{len(arms)} arms, {total} stages instead of {naive} ({total / naive:.0%}), {plan.cached.total()} cached; "
        f"about {plan.remaining_seconds() / jobs:.0f} s left with jobs={jobs} (one process, nothing shared: {plan.naive_seconds():.0f} s)"
    )
    for line in [*level_lines(arms, store), *hour_lines(arms, store)]:
        console.print(line, soft_wrap=True, highlight=False)
    if missing:
        console.print(
            "without these models and data sets, finished stages may be counted as to run; problems to solve first:",
            soft_wrap=True,
        )
    for problem in missing:
        console.print(f"  {problem}", soft_wrap=True, highlight=False, markup=False)


def _sweeps(overrides: Sequence[str]) -> Iterator[tuple[list[str], list[int] | None]]:
    """Yields arguments (overrides, seeds) of `expand`: for each experiment in experiment=, or once if it is absent."""
    overrides = [w for w in overrides if w not in MULTIRUN and not w.lstrip("+").startswith((CHOICE, SETTING))]
    given = {key: value.strip("'\"") for key, _, value in (word.partition("=") for word in overrides)}
    if "experiment" not in given:
        yield overrides, None
        return
    listed = [word for word in overrides if word.startswith("seeds=")]
    seeds = seeds_of(given["experiment"], OmegaConf.from_dotlist(listed).get("seeds"))
    others = [word for word in overrides if not word.startswith(("experiment=", "seeds="))]
    for words in experiments(given["experiment"], given.get("scale", "toy")).values():
        yield [*words, *others], seeds
