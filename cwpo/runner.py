"""The commands: one run or sweep, a plan, a whole reproduction."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cwpo.assets import settled
from cwpo.collect import metrics, record
from cwpo.config import COMPARING_GOLDS, CONF
from cwpo.errors import InputError
from cwpo.forecast import hour_lines, level_lines
from cwpo.kept import keep_arms, kept_arms
from cwpo.launchers import CHOICE, SETTING, chosen, launcher
from cwpo.levels import run_levels
from cwpo.pipeline import Settings
from cwpo.plan import Arm, expand, make_plan
from cwpo.results import REWARD_COLUMNS, RUN_COLUMNS, RunRewards, read_rows
from cwpo.runtime import rare_collections
from cwpo.statistics import paired_difference, win_rate
from cwpo.store import Store
from cwpo.sweep import run_arms
from cwpo.validation import nearest

LOOKS = {
    "--cfg",
    "-c",
    "--help",
    "-h",
    "--hydra-help",
    "--info",
    "-i",
    "--version",
}  # of Hydra, which then runs nothing
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
SAME_TASK = ("experiment", "data", "weak", "strong", "objective", "seed")
CORE = tuple(
    "table1 table3 table4 table5 table6 table13 figure2 figure3_left figure3_right figure4 figure7".split()
)
CORE_SEEDS = (0, 1, 2)  # the experiments behind headline claims name ten


def run_job(cfg: DictConfig, argv: Sequence[str]) -> None:
    """One job of Hydra's: finish the arm, enter its row, say what came out.

    The first job of a sweep on Hydra's own launcher first finishes all arms' stages with `jobs` workers, each distinct
    stage once; the other jobs then find them done.
    """
    made = Arm.of(cfg)
    settings = Settings.of(cfg)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_ == BASIC and hydra.job.num == 0:
        arms = expand([word for word in argv if not word.startswith("-")])
        run_arms(arms, settings, jobs=cfg.jobs, title=cfg.name)
    run_arms([made], settings, title=cfg.method.name)
    store = Store(cfg.store)
    written = record([made], store, Path(cfg.results), experiment=cfg.name, whole=False)
    _say_outcome(made, store, written)


def run(main: Callable[[], Any]) -> None:
    """Hydra's `main`; where the command line names a launcher, the stages of all arms are first run by it, level by level."""
    submit, words = chosen(sys.argv[1:])
    if submit is not None and LOOKS.isdisjoint(words):
        arms = expand([word for word in words if not word.startswith("-")])
        run_levels(arms, Settings.of(arms[0].cfg), submit, arms[0].cfg.name)
        sys.argv[1:] = words
    main()


def _say_outcome(made: Arm, store: Store, written: Sequence[Path]) -> None:
    cfg = made.cfg
    prepared = store.manifest("prepare", made.nodes["prepare"].key)["summary"]
    drops = ", ".join(
        f"{name} {count}" for name, count in prepared["drops"].items() if name != "read" and count
    )
    sizes = ", ".join(f"{count} {name}" for name, count in prepared["pairs"].items())
    print(
        f"{cfg.scale_name} scale · {cfg.data.name} · {cfg.pair.weak} -> {cfg.pair.strong} · seed {cfg.seed}"
    )
    print(f"  pairs: {prepared['drops']['read']} read; {sizes}; dropped: {drops or 'none'}")
    for line in against_paper(prepared.get("kept"), cfg.data):
        print(f"  {line}")
    said = {
        "assess": "annotator",
        "embed": "distance from the labeled responses",
        "evaluate": cfg.method.name,
    }
    for name, who in said.items():
        if any(node.name == name for node in made.run):
            values = metrics(made.nodes[name], store)
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, int | float))
            print(f"  {who}: {shown}")
            if name == "evaluate" and settled(cfg).gold.name not in COMPARING_GOLDS:
                for line in against_others(Path(cfg.results) / cfg.scale_name, made.nodes[name].key):
                    print(f"  {line}")
    last = made.run[-1]
    print(f"  {last.name}: {last.folder(store)}")
    if written:
        print(f"  rows: {', '.join(str(path) for path in written)}")


def against_paper(kept: Mapping[str, int] | None, data: Any) -> list[str]:
    """The usable pairs of a published data set beside the paper's count, which none of the rules meets exactly."""
    if not kept:
        return []
    splits = [
        f"{count:,} {name}" + (f" (paper: {data.paper_counts[name]:,})" if name in data.paper_counts else "")
        for name, count in kept.items()
    ]
    return [
        f"kept by data.length_rule={data.length_rule}, at most {data.max_tokens} tokens: {', '.join(splits)}"
    ]


def against_others(folder: Path, run_key: str) -> list[str]:
    """One line for every other arm in runs.csv of the same experiment, models, data, objective and seed: who wins how often.

    The responses compared are those of the two aligned models to the same test prompts; ties count half.
    """
    runs = read_rows(folder / "runs.csv", RUN_COLUMNS)
    table = read_rows(folder / "rewards.csv.gz", REWARD_COLUMNS)
    own = runs[runs["run_key"] == run_key].iloc[0]
    same = (runs[list(SAME_TASK)] == own[list(SAME_TASK)]).all(axis=1) & (runs["run_key"] != run_key)
    rewards = {row["run_key"]: RunRewards.parse(row) for row in table.to_dict("records")}
    ours = rewards[run_key]
    lines = []
    for other in runs[same].to_dict("records"):
        theirs = rewards.get(other["run_key"])
        if theirs is None:
            continue  # the run that entered it was killed half-way; started again, it enters the rest
        if theirs.prompts != ours.prompts:
            continue  # other test prompts, as with another evaluation.prompts
        gap = paired_difference(ours.reward, theirs.reward)
        lines.append(
            f"against {other['method']} ({other['run_key']}): wins {100 * win_rate(ours.reward, theirs.reward):.1f} %, gold reward "
            f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] on {gap.n_prompts} prompts"
        )
    return lines


def show_plan(overrides: Sequence[str]) -> None:
    """Print what a command would run. Runs nothing."""
    from rich.console import Console
    from rich.table import Table

    overrides = [word for word in overrides if not word.lstrip("+").startswith((CHOICE, SETTING))]
    named = [word for word in overrides if word.startswith("experiment=")]
    listed = [word for word in overrides if word.startswith("seeds=")] if named else []
    others = [word for word in overrides if word not in (*named, *listed)]
    if named:
        experiment = named[-1].partition("=")[2].strip("'\"")
        given = OmegaConf.from_dotlist(listed).get("seeds")
        seeds = seeds_of(experiment, given)
        names = experiments(experiment)
        arms = [made for name in names for made in expand([f"experiment={name}", *others], seeds)]
    else:
        arms = expand(overrides)
    plan = make_plan(arms, Store(arms[0].cfg.store))
    table = Table("stage", "distinct", "cached", "to run", "median s", "if every arm ran alone")
    for name, count in plan.stages.items():
        seconds = plan.seconds[name]
        table.add_row(
            name,
            str(count),
            str(plan.cached[name]),
            str(count - plan.cached[name]),
            "never ran" if seconds is None else f"{seconds:.1f}",
            str(plan.naive[name]),
        )
    console = Console()
    console.print(table)
    total, naive = plan.stages.total(), plan.naive.total()
    left = plan.remaining_seconds() / arms[0].cfg.jobs
    console.print(
        f"{plan.arms} arms, {total} distinct stages of {naive} ({total / naive:.0%} of naive), {plan.cached.total()} cached; "
        f"about {left:.0f} s left with jobs={arms[0].cfg.jobs} (one process, nothing shared: {plan.naive_seconds():.0f} s)"
    )
    store = Store(arms[0].cfg.store)
    for line in [*level_lines(arms, store), *hour_lines(arms, store)]:
        console.print(line, soft_wrap=True, highlight=False)


def experiments(name: str) -> list[str]:
    """The experiments that core, all, or a comma-separated list stands for."""
    existing = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    if name == "all":
        return existing
    names = list(CORE) if name == "core" else [part.strip() for part in name.split(",") if part.strip()]
    unknown = [
        f"experiment={part} does not exist; {nearest(part, ['core', 'all', *existing])}"
        for part in names
        if part not in existing
    ]
    if unknown or not names:
        raise InputError(unknown or "experiment= names nothing; use core, all, or names of conf/experiment")
    return names


def seeds_of(experiment: str, given: object) -> list[int] | None:
    """The seeds asked for; else three for the core; None: those of the experiments' files."""
    if given is not None:
        seeds = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
        if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise InputError(f"seeds={given} must be a list of whole numbers from 0, e.g. seeds=[0,1,2]")
        return seeds
    return list(CORE_SEEDS) if experiment == "core" else None


def reproduce(cfg: Any) -> None:
    """Run experiments and write their rows, tables and figures; say where they are."""
    from cwpo.report.build import build_report

    started = time.monotonic()
    own: Any = OmegaConf.to_container(cfg.launcher_settings)
    submit = None if cfg.launcher is None else launcher(cfg.launcher, own)
    names = experiments(cfg.experiment)
    common = [
        f"scale={cfg.scale}",
        f"store={cfg.store}",
        f"results={cfg.results}",
        f"threads={cfg.threads}",
        *cfg.overrides,
    ]
    seeds = seeds_of(cfg.experiment, cfg.seeds)
    store, command = Store(cfg.store), [names, common, seeds]
    kept = kept_arms(store, command)
    arms = kept or {name: expand([f"experiment={name}", *common], seeds) for name in names}
    together = [made for group in arms.values() for made in group]
    print(f"{', '.join(names)} at {cfg.scale} scale: {len(together)} arms", flush=True)
    if kept is None:
        settings = Settings.of(together[0].cfg)
        if submit is None:
            run_arms(together, settings, jobs=cfg.jobs, title="reproduce")
        else:
            run_levels(together, settings, submit, "reproduce")
        keep_arms(store, command, arms)
    with rare_collections():
        for name, group in arms.items():
            record(group, store, Path(cfg.results), experiment=name, whole=True)
    print("tables and figures:")
    for path in build_report(Path(cfg.results), cfg.scale):
        print(f"  {path}")
    print(f"done in {time.monotonic() - started:.0f} s")
