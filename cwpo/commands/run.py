"""The command `run`: one arm, or a sweep whose stages are shared."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cwpo.config.assets import settled
from cwpo.config.schema import COMPARING_GOLDS
from cwpo.execution.cluster import chosen
from cwpo.execution.levels import run_levels
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import Arm, expand, one_choice
from cwpo.pipeline.graph import Node
from cwpo.pipeline.record import metrics, record
from cwpo.results import REWARD_COLUMNS, RUN_COLUMNS, RunRewards, read_rows
from cwpo.statistics import paired_difference, win_rate
from cwpo.store.store import Store

# Flags with which Hydra shows something and runs nothing.
LOOKS = {"--cfg", "-c", "--help", "-h", "--hydra-help", "--info", "-i", "--version"}
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# Stages whose metrics are printed, and the words before them; evaluate has the method's name.
MEASURED = {"assess": "annotator", "embed": "distance from the labeled responses", "evaluate": None}
SAME_TASK = ("experiment", "data", "weak", "strong", "objective", "seed")


def run_job(composed: DictConfig, argv: Sequence[str]) -> None:
    """One job of Hydra's: finish the arm, enter its row and print the outcome.

    The first job of a sweep finishes the stages of all arms with `jobs` workers, so the other jobs only enter rows.
    """
    arm = Arm.of(composed)
    cfg, settings = arm.cfg, Settings.of(arm.cfg)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_ == BASIC and hydra.job.num == 0:
        arms = expand([word for word in argv if not word.startswith("-")])
        run_arms(arms, settings, jobs=cfg.jobs, title=cfg.name)
    run_arms([arm], settings, title=cfg.method.name)
    store = Store(cfg.store)
    written = record([arm], store, Path(cfg.results), experiment=cfg.name, whole=False)
    _print_outcome(arm, store, written)


def run(main: Callable[[], Any]) -> None:
    """Hydra's `main`. A launcher on the command line first runs the stages of all arms, level by level."""
    one_choice(sys.argv[1:])
    submit, words = chosen(sys.argv[1:])
    if submit is not None and LOOKS.isdisjoint(words):
        arms = expand([word for word in words if not word.startswith("-")])
        run_levels(arms, Settings.of(arms[0].cfg), submit, arms[0].cfg.name)
        sys.argv[1:] = words
    main()


def _print_outcome(arm: Arm, store: Store, written: Sequence[Path]) -> None:
    cfg = arm.cfg
    prepared = arm.nodes["prepare"].summary(store)
    read, *drops = (f"{count} {name}" for name, count in prepared["drops"].items() if count)
    sizes = ", ".join(f"{count} {name}" for name, count in prepared["pairs"].items())
    models = f"{cfg.pair.weak} -> {cfg.pair.strong}"
    print(f"{cfg.scale_name} scale · {cfg.data.name} · {models} · seed {cfg.seed}")
    print(f"  pairs: {read}; {sizes}; dropped: {', '.join(drops) or 'none'}")
    for line in against_paper(prepared.get("kept"), cfg.data):
        print(f"  {line}")
    for node in arm.run:
        if node.name in MEASURED:
            _print_metrics(arm, node, store)
    last = arm.run[-1]
    print(f"  {last.name}: {last.folder(store)}")
    if written:
        print(f"  rows: {', '.join(str(path) for path in written)}")


def _print_metrics(arm: Arm, node: Node, store: Store) -> None:
    cfg, values = arm.cfg, metrics(node, store)
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, int | float))
    print(f"  {MEASURED[node.name] or cfg.method.name}: {numbers}")
    if node.name == "evaluate" and settled(cfg).gold.name not in COMPARING_GOLDS:
        for line in against_others(Path(cfg.results) / cfg.scale_name, node.key):
            print(f"  {line}")


def against_paper(kept: Mapping[str, int] | None, data: Any) -> list[str]:
    """The usable pairs of a published data set beside the paper's count."""
    if not kept:
        return []
    paper = {name: f" (paper: {count:,})" for name, count in data.paper_counts.items()}
    splits = ", ".join(f"{count:,} {name}{paper.get(name, '')}" for name, count in kept.items())
    return [f"kept by data.length_rule={data.length_rule}, data.max_tokens={data.max_tokens}: {splits}"]


def against_others(folder: Path, run_key: str) -> list[str]:
    """The win rate against every other arm in runs.csv with the same experiment, models, data, objective and seed.

    It compares the responses of the two aligned models to the same test prompts; ties count half.
    """
    runs = read_rows(folder / "runs.csv", RUN_COLUMNS)
    table = read_rows(folder / "rewards.csv.gz", REWARD_COLUMNS)
    own = runs[runs["run_key"] == run_key].iloc[0]
    same = (runs[list(SAME_TASK)] == own[list(SAME_TASK)]).all(axis=1) & (runs["run_key"] != run_key)
    rewards = {row["run_key"]: RunRewards.parse(row) for row in table.to_dict("records")}
    ours = rewards[run_key]
    lines = []
    for other in runs[same].to_dict("records"):
        theirs = rewards.get(other["run_key"])  # None: killed half-way; entered when it is started again
        if theirs is None or theirs.prompts != ours.prompts:
            continue
        wins, gap = win_rate(ours.reward, theirs.reward), paired_difference(ours.reward, theirs.reward)
        lines.append(
            f"against {other['method']} ({other['run_key']}): wins {100 * wins:.1f} %, gold reward {gap.mean:+.3f} "
            f"[{gap.low:+.3f}, {gap.high:+.3f}] on {gap.n_prompts} prompts"
        )
    return lines
