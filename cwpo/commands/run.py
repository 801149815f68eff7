"""The command `run`: runs one arm, or a sweep whose arms share stages."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from cwpo.commands.sweep import conclude, outcome_line, refuse_idle, sweep
from cwpo.commands.words import MULTIRUN
from cwpo.errors import InputError
from cwpo.execution.cluster import chosen
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import Arm, merge_points, one_choice, plain_values
from cwpo.pipeline.record import metrics, record
from cwpo.store.store import Store

# Flags that make Hydra show something and run nothing.
LOOKS = {"--cfg", "-c", "--help", "-h", "--hydra-help", "--info", "-i", "--version"}
OF_MANY = ("experiment=", "against=")
SWEEPER = "hydra/sweeper="
# Our defaults for settings of Optuna's sweeper: maximise the gold reward, run one trial after another.
SEARCH = {"direction": "maximize", "n_jobs": "1", "sampler.seed": "0"}
# Stage whose metrics are printed -> label of the printed line; None stands for the method's name.
MEASURED = {"assess": "annotator", "embed": "distance from the labeled responses", "evaluate": None}
_trials: dict[str, Arm] = {}  # key -> finished arm of a sweep that Hydra runs, whose sweepers return nothing


def run(main: Callable[[], Any]) -> None:
    """Runs the command in sys.argv: a sweep if it has -m, hydra.mode=MULTIRUN, experiment= or against=; else one arm.

    A command with a flag in LOOKS, such as --help, always goes to `main`, a function under Hydra. Of the others, the
    function `sweep` runs (1) those with a launcher (hydra/launcher= other than basic), (2) sweeps with no flag but -m
    and with the default sweeper (hydra/sweeper=basic). `main` runs the rest, where against= raises InputError.
    """
    one_choice(sys.argv[1:])
    submit, words = chosen(sys.argv[1:])
    flags = {word for word in words if word.startswith("-")} - MULTIRUN
    sweeper = next((w.removeprefix(SWEEPER) for w in words if w.startswith(SWEEPER)), "basic")
    of_many = any(w in MULTIRUN or w.startswith(OF_MANY) for w in words)
    if LOOKS.isdisjoint(flags) and (submit or (of_many and sweeper == "basic" and not flags)):
        sweep([word for word in words if not word.startswith(("-", SWEEPER))], submit)
        return
    if any(word.startswith("against=") for word in words) and LOOKS.isdisjoint(flags):
        raise InputError(
            "against= works only in a sweep over all combinations: remove against=, or remove hydra/sweeper= and every flag but -m"
        )
    sys.argv[1:] = words if sweeper != "optuna" else [*words, *_search(words)]
    main()
    if _trials:
        arms = list(_trials.values())
        conclude(arms, Store(arms[0].cfg.store))
        refuse_idle(arms, [word for word in words if "=" in word and not word.startswith("-")])


def _search(words: Sequence[str]) -> list[str]:
    """Returns, as overrides, the defaults in SEARCH that `words` do not replace. InputError if Optuna is missing."""
    if find_spec("optuna") is None:
        raise InputError(f"{SWEEPER}optuna needs the package hydra-optuna-sweeper; pip install 'cwpo[optuna]'")
    given = [word for word in words if word.startswith("hydra")]
    open_keys = [key for key in SEARCH if not any(w.startswith(f"hydra.sweeper.{key}=") for w in given)]
    if any(word.startswith("hydra/sweeper/sampler=") for word in given):
        open_keys = [key for key in open_keys if not key.startswith("sampler.")]
    return [f"hydra.sweeper.{key}={SEARCH[key]}" for key in open_keys]


def run_job(composed: DictConfig) -> float | None:
    """Runs the arm of a Hydra job, writes its row, prints the outcome. Returns the mean gold reward.

    Returns None if `until` ends the arm earlier. In a sweep that Hydra runs, `run` writes all rows after the last job.
    """
    arm = Arm.of(composed)
    cfg, store, evaluated = arm.cfg, Store(arm.cfg.store), arm.run[-1].name == "evaluate"
    of_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    run_arms([arm], Settings.of(cfg), title=cfg.method.name)
    if of_sweep:
        chosen_here = [word for word in HydraConfig.get().overrides.task if word not in sys.argv]
        given = OverridesParser.create().parse_overrides(chosen_here)
        trial = _trials.setdefault(arm.key, replace(arm, point={}))
        merge_points(trial.point, plain_values(given))
        print(outcome_line(_trials[arm.key], store), flush=True)
    else:
        written = record([arm], store, Path(cfg.results), experiment=cfg.name, whole=False)
        _print_outcome(arm, store, written)
    return float(metrics(arm.nodes["evaluate"], store)["reward_mean"]) if evaluated else None


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
            values = metrics(node, store)
            numbers = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, int | float))
            print(f"  {MEASURED[node.name] or cfg.method.name}: {numbers}")
    last = arm.run[-1]
    print(f"  {last.name}: {last.folder(store)}")
    if written:
        print(f"  rows: {', '.join(str(path) for path in written)}")


def against_paper(kept: Mapping[str, int] | None, data: Any) -> list[str]:
    """Returns [a line with the pairs kept in each split and the paper's counts]; [] if `kept` is empty or None."""
    if not kept:
        return []
    paper = {name: f" (paper: {count:,})" for name, count in data.paper_counts.items()}
    splits = ", ".join(f"{count:,} {name}{paper.get(name, '')}" for name, count in kept.items())
    return [f"kept by data.length_rule={data.length_rule}, data.max_tokens={data.max_tokens}: {splits}"]
