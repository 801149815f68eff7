"""The command `reproduce`: runs experiments and writes their result rows, tables, figures and page."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cwpo.commands.sweep import refuse_idle
from cwpo.commands.words import quoted
from cwpo.execution.cluster import launcher
from cwpo.execution.levels import run_levels
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import Arm, expand
from cwpo.pipeline.experiments import experiments, seeds_of, swept
from cwpo.pipeline.record import record, recorded
from cwpo.runtime import rare_collections
from cwpo.store.store import Store


def reproduce(cfg: Any) -> None:
    """Runs the experiments that cfg.experiment names, writes their rows, tables and figures, and prints their paths."""
    from cwpo.report.build import build_report

    started = time.monotonic()
    own: Any = OmegaConf.to_container(cfg.launcher_settings)
    submit = None if cfg.launcher is None else launcher(cfg.launcher, own)
    names = experiments(cfg.experiment, cfg.scale)
    places = [f"{key}={quoted(str(cfg[key]))}" for key in ("store", "results")]
    asked = [] if cfg.jobs is None or submit else [f"jobs={cfg.jobs}"]
    common = [f"scale={cfg.scale}", f"threads={cfg.threads}", *asked, *places]
    seeds = seeds_of(cfg.experiment, cfg.seeds)
    arms = {name: expand([*words, *common, *cfg.overrides], seeds) for name, words in names.items()}
    together = [arm for group in arms.values() for arm in group]
    refuse_idle(together, cfg.overrides)
    print(f"{', '.join(names)} at {cfg.scale} scale: {len(together)} arms", flush=True)
    settings = Settings.of(together[0].cfg)
    if submit is None:
        run_arms(together, settings, jobs=cfg.jobs, title="reproduce")
    else:
        run_levels(together, settings, submit, "reproduce")
    store = Store(cfg.store)
    with rare_collections():
        for name, group in arms.items():
            parts = [word for word in cfg.overrides if word.partition("=")[0] in swept(name)]
            chosen = len(names[name]) > 1 or cfg.seeds is not None or parts
            settings_of_all = [*common, *(word for word in cfg.overrides if word not in parts)]
            whole = not chosen or others_are_outdated(name, group, Path(cfg.results), settings_of_all)
            record(group, store, Path(cfg.results), experiment=name, whole=whole)
    print("tables and figures:")
    for path in build_report(Path(cfg.results), cfg.scale):
        print(f"  {path}")
    print(f"done in {time.monotonic() - started:.0f} s")


def others_are_outdated(experiment: str, arms: Sequence[Arm], results: Path, words: Sequence[str]) -> bool:
    """Returns whether result files have rows of arms that the experiment no longer has. If so, prints a line.

    `arms`: the arms of this run, a part of the experiment. `words`: overrides that hold for the whole experiment.
    """
    rows, keys = recorded(results, arms[0].cfg.scale_name, experiment), {arm.key for arm in arms}
    others = rows[~rows["run_key"].isin(keys)]
    if others.empty or keys <= set(rows["run_key"]):
        return False  # each of `arms` has a row, so all rows are of this version
    now = expand([f"experiment={experiment}", *words], sorted(others["seed"].unique().tolist()))
    outdated = not set(others["run_key"]) <= {arm.key for arm in now}
    if outdated:
        print(f"{experiment}: {len(others)} rows of an earlier version are replaced by those of this run")
    return outdated
