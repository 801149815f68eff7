"""Runs a sweep: prints a line for each finished arm, and at the end writes the rows, a table, figures and a page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser

from cwpo.config.assets import settled
from cwpo.config.schema import COMPARING_GOLDS
from cwpo.errors import InputError
from cwpo.execution.levels import Submit, run_levels
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import Arm, distinct, expand
from cwpo.pipeline.graph import Node
from cwpo.pipeline.record import metrics, record
from cwpo.store.store import Store
from cwpo.tracking import log_sweep

OF_METHOD = re.compile(r"(method|weighting)[.=]")  # overrides that set an arm's method or its weighting
ROWS = 40  # rows of the table that are printed; the files have all


def sweep(words: Sequence[str], submit: Submit | None = None) -> None:
    """Runs every arm of the sweep, in local processes or by `submit` as cluster jobs; writes and prints the results."""
    arms, references = with_references(expand(words), words)
    cfg = arms[0].cfg
    settings, store = Settings.of(cfg), Store(cfg.store)
    finished = Finished(arms, store)
    if submit is None:
        run_arms(arms, settings, jobs=cfg.jobs, title=cfg.name, watch=finished)
    else:
        run_levels(arms, settings, submit, cfg.name, watch=finished)
    conclude(arms, store, references)


def with_references(arms: list[Arm], words: Sequence[str]) -> tuple[list[Arm], dict[str, str]]:
    """Returns the arms and {arm key: key of its reference, the arm to compare it with}. `words` are the overrides.

    against=<method> adds the arms of that method, the references. An arm and its reference have the same swept values,
    except for method.*, weighting.* and keys that one of the two does not use. Without against= no arm has a reference.
    Raises InputError if against has several values, if the gold model can only compare two responses, or if no arm
    depends on a swept key (see refuse_idle).
    """
    against = arms[0].cfg.against
    if any("against" in arm.point for arm in arms):
        raise InputError("against takes one method, as in against=human; for several, run the sweep once for each")
    refuse_idle(arms, words)
    if against is None:
        return arms, {}
    judges = {settled(arm.cfg).gold.name for arm in arms} & {*COMPARING_GOLDS}
    if judges:
        raise InputError(
            f"against={against} compares rewards of single responses, but gold={judges.pop()} only says which of two is better; "
            "leave against= out, or use another gold=..."
        )
    kept = [word for word in words if not OF_METHOD.match(word.lstrip("+"))]
    others = {
        arm.key: replace(arm, point={"method": against} | arm.point) for arm in expand([*kept, f"method={against}"])
    }
    named = {arm.key: replace(arm, point={"method": arm.cfg.method.name} | arm.point) for arm in arms}
    references = {
        arm.key: other.key
        for arm in named.values()
        for other in others.values()
        if other.key != arm.key and _agree(arm.point, other.point)
    }
    return list((named | {key: arm for key, arm in others.items() if key not in named}).values()), references


def refuse_idle(arms: Sequence[Arm], words: Sequence[str]) -> None:
    """Raises InputError if `words` sweep a key on which no arm depends, as in store=a,b. Names all such keys."""
    swept = [o for o in OverridesParser.create().parse_overrides(list(words)) if o.is_sweep_override()]
    idle = [o.input_line for o in swept if all(arm.point.get(o.key_or_group) is None for arm in arms)]
    if idle:
        why = "gives the same arms for each value, so only the first would be used; give one value, or run the command"
        raise InputError([f"{line} {why} once for each" for line in idle])


def _agree(point: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    shared = {key for key in point.keys() & other.keys() if not OF_METHOD.match(f"{key}=")}
    return all(None in (point[key], other[key]) or point[key] == other[key] for key in shared)


class Finished:
    """Prints a line for each arm once all its stages are finished. Call the object with every stage that finishes."""

    def __init__(self, arms: Sequence[Arm], store: Store) -> None:
        done = {node.key for node in distinct(arms) if node.done(store)}
        left = [(arm, {node.key for node in arm.run} - done) for arm in arms]
        self.open = [(arm, keys) for arm, keys in left if keys]
        self.total, self.store = len(arms), store
        if len(self.open) < self.total:
            print(f"{self.total - len(self.open)} of {self.total} arms were finished before", flush=True)

    def __call__(self, node: Node) -> None:
        for arm, keys in self.open:
            keys.discard(node.key)
            if not keys:
                number = self.total - sum(bool(keys) for _, keys in self.open)
                print(f"arm {number} of {self.total} · {outcome_line(arm, self.store)}", flush=True)
        self.open = [(arm, keys) for arm, keys in self.open if keys]


def outcome_line(arm: Arm, store: Store) -> str:
    """Returns a line: a finished arm's swept values and, if evaluated, gold reward and GRA (gold reward accuracy)."""
    point = " ".join(f"{key}={value}" for key, value in arm.point.items() if value is not None)
    if "evaluate" not in {node.name for node in arm.run}:
        return point
    found = metrics(arm.nodes["evaluate"], store)
    return f"{point} · gold reward {found['reward_mean']:.3f} (SFT {found['reward_sft_mean']:.3f}), GRA {100 * found['gra']:.1f} %"


def conclude(arms: Sequence[Arm], store: Store, references: Mapping[str, str] | None = None) -> None:
    """Writes the arms' result rows and, per experiment and scale, a table, figures and a page; prints the tables."""

    def place(arm: Arm) -> tuple[str, str, str]:
        return arm.cfg.results, arm.cfg.scale_name, arm.cfg.name

    for (results, scale, name), group in itertools.groupby(sorted(arms, key=place), place):
        here = list(group)
        rows = record(here, store, Path(results), experiment=name, whole=False)
        evaluated = [arm for arm in here if arm.run[-1].name == "evaluate"]
        if not evaluated:
            print(f"no arm was evaluated (until={here[0].cfg.until}), so there is no table")
        else:
            from cwpo.report.sweep import write_sweep  # late: it imports matplotlib

            cfg = here[0].cfg
            made = write_sweep(Path(results), scale, name, points(evaluated, references or {}), cfg.against)
            show(made.shown)
            print("\n".join(f"  {path}" for path in made.files if path.suffix != ".png"))
            print(f"  {sum(path.suffix == '.png' for path in made.files)} figures in {made.files[0].parent}")
            log_sweep(Settings.of(cfg).wandb, name, store.root.parent, made.table, runs(evaluated, store))
        print(f"  rows: {', '.join(map(str, rows)) or 'none'}")


def points(arms: Sequence[Arm], references: Mapping[str, str]) -> pd.DataFrame:
    """Returns a row per arm: run_key, seed, reference (run_key of the arm to compare with, or None) and swept values.

    Each key of Arm.point that has several values, except seed, is a column; None where an arm has no value.
    """
    values = pd.DataFrame([arm.point for arm in arms], dtype=object)
    swept = [key for key in values if key != "seed" and len({str(value) for value in values[key]}) > 1]
    frame = values[swept].where(values[swept].notna(), None)
    of_arms = {
        "run_key": [arm.key for arm in arms],
        "seed": [arm.cfg.seed for arm in arms],
        "reference": pd.Series([references.get(arm.key) for arm in arms], dtype=object),
    }
    return pd.concat([pd.DataFrame(of_arms), frame], axis=1)


def show(table: pd.DataFrame) -> None:
    """Prints the first ROWS rows of the table, up to the column "GRA %"."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    head = table.loc[: ROWS - 1, :"GRA %"]
    shown = Table(*head.columns, box=None)
    for row in head.to_numpy():
        shown.add_row(*row)
    console.print(shown, highlight=False)
    if len(table) > ROWS:
        print(f"  and {len(table) - ROWS} more")


def runs(arms: Iterable[Arm], store: Store) -> dict[str, dict[str, Any]]:
    """Returns {arm.key: {"config": seed and swept values, "summary": metrics}}; in config, `_` replaces `.` in keys."""
    return {
        arm.key: {
            "config": {"seed": arm.cfg.seed} | {key.replace(".", "_"): value for key, value in arm.point.items()},
            "summary": metrics(arm.nodes["evaluate"], store),
        }
        for arm in arms
    }
