"""Measures: functions that compare arms or annotators and give one effect per cell and seed.

A measure takes a frame of Evidence and the name of a number, a column such as "gra" or "accuracy". An effect is mostly
the difference of this number between two arms. A cell is one combination of values of the columns in `match`, such as a
data set and a pair of models. Only runs of the same cell and seed are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.inputs import one_per_seed, select

Where = Mapping[str, Any]
Terms = Sequence[tuple[float, Where]]
ARM = ("data", "weak", "strong", "objective")
ANNOTATOR = ("data", "weak")


@dataclass(frozen=True)
class Measured:
    """The result of a measure. `effects` has one effect per cell (row) and seed (column), none of them NaN.

    `used` has the runs behind the effects; its column `side` is "a" for runs of the tested arm and "b" for runs of the
    arms it is compared with. `notes` are sentences for the reader, such as how many effects were left out.
    """

    effects: pd.DataFrame
    used: pd.DataFrame
    notes: tuple[str, ...] = field(default=())

    @property
    def by_seed(self) -> pd.Series:
        """The effect of each seed: the mean over its cells."""
        return self.effects.mean(axis=0)

    @property
    def by_cell(self) -> pd.Series:
        """The effect of each cell: the mean over its seeds."""
        return self.effects.mean(axis=1)


Measure = Callable[[pd.DataFrame, str], Measured]
Effects = dict[tuple[Any, ...], float]  # (*values of a cell, seed) -> effect or number


def contrast(a: Terms, b: Terms = (), *, match: Sequence[str] = ARM) -> Measure:
    """Returns a measure whose effect, in each cell and seed, is the sum of `a` minus that of `b`, e.g. GRA of two arms.

    A term (factor, where) is `factor` times the number of the run that meets `where`: in `a`, of the tested arm, in
    `b`, of the arm that it is compared with. `match` names the columns that define a cell. There is no effect for a
    cell and seed in which some term has no run. If the experiments ran on different machines, there are no effects at
    all, and a note says so.
    """
    factors = [*(factor for factor, _ in a), *(-factor for factor, _ in b)]

    def measure(frame: pd.DataFrame, number: str) -> Measured:
        rows = [select(frame, where) for _, where in (*a, *b)]
        parts = [_values(arms, number, match) for arms in rows]
        total = {
            key: math.fsum(factor * part[key] for factor, part in zip(factors, parts))
            for key in parts[0]
            if all(key in part for part in parts)
        }
        notes = _of_two_machines(frame, rows) if total else ()
        return _measured({} if notes else total, rows, "a" * len(a) + "b" * len(b), match, notes)

    return measure


def _of_two_machines(frame: pd.DataFrame, rows: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """Returns (a note,) if the experiments of `rows` ran on different machines, else ().

    Experiments count as run on different machines if any run key has different results in two of them.
    """
    names = sorted({name for part in rows for name in part["experiment"]})
    number = "gra" if "gra" in frame else "accuracy"
    shared = frame[frame["experiment"].isin(names)].groupby("run_key")[number]
    if len(names) < 2 or not (shared.max() - shared.min() > 1e-3).any():
        return ()
    return (
        f"{' and '.join(names)} are of different machines; run `make reproduce EXPERIMENT={','.join(names)}` to compare them.",
    )


def over_best(challenger: Where, rivals: Sequence[Where], *, per: Sequence[str] = ()) -> Measure:
    """Returns a measure: in each cell and seed, the value, e.g. GRA, of `challenger` minus that of the best rival.

    Cells with equal values in the columns `per` share one best rival; with per=(), all cells share one. The best rival
    for a seed is chosen on the *other* seeds: on the seed itself, the largest of many noisy values would be too large
    and so favour the rivals. If there is only one seed, the best rival is chosen on that seed.
    """

    def measure(frame: pd.DataFrame, number: str) -> Measured:
        rows = [select(frame, where) for where in (challenger, *rivals)]
        own, *others = (_values(arms, number, ARM) for arms in rows)
        options, notes = _options(others)
        against = _chosen(options, per)
        gain = {key: own[key] - value for key, value in against.items() if key in own}
        return _measured(gain, rows, "a" + "b" * len(rivals), ARM, notes)

    return measure


def own_choice_pays(wheres: Sequence[Where]) -> Measure:
    """Returns a measure: what a cell gains if it uses its own best option instead of the best one for all data sets.

    Each of `wheres` selects the runs of one option, e.g. of one threshold. Both options are chosen on the other seeds,
    as in over_best. The effect is 0 if they are the same.
    """

    def measure(frame: pd.DataFrame, number: str) -> Measured:
        rows = [select(frame, where) for where in wheres]
        options, notes = _options([_values(arms, number, ARM) for arms in rows])
        common = _chosen(options, [name for name in ARM if name != "data"])
        gain = {key: value - common[key] for key, value in _chosen(options, ARM).items()}
        return _measured(gain, rows, "a" * len(wheres), ARM, notes)

    return measure


def saving(mine: Where, others: Sequence[Where], *, match: Sequence[str]) -> Measure:
    """Returns a measure: by how many percent the value, e.g. seconds, of the runs `mine` is below the smallest value
    among `others`. Only runs with equal seeds and equal values in the columns `match` are compared."""

    def measure(frame: pd.DataFrame, number: str) -> Measured:
        rows = [select(frame, where) for where in (mine, *others)]
        own, *rest = (_values(arms, number, match) for arms in rows)
        saved = {
            key: 100 * (1 - value / min(part[key] for part in rest))
            for key, value in own.items()
            if all(key in part for part in rest)
        }
        return _measured(saved, rows, "a" + "b" * len(others), match)

    return measure


def confidence_distance(frame: pd.DataFrame, number: str) -> Measured:
    """Measures how much histograms of confidence differ between data sets, beyond their difference between seeds.

    Each Bradley–Terry annotator (data set, weak model, seed) has one histogram. Its effect is the mean distance to the
    histograms of other data sets (same model and seed) minus the mean distance to those of other seeds (same model and
    data set; 0 if there are none). The distance is the total variation, in [0, 1]. `number` is ignored.
    """
    del number  # histograms have no other numbers to choose from
    frame = frame[frame["annotator"] == "bt"]
    for _, runs in frame.drop_duplicates("run_key").groupby(["weak", "data"]):
        one_per_seed(runs.assign(experiment="figure7"))
    counts = frame.pivot_table(index=["weak", "data", "seed"], columns="low", values="pairs", aggfunc="sum")
    shares = counts.fillna(0).div(counts.sum(axis=1), axis=0) if len(counts) else counts
    histograms = {key: row.to_numpy() for key, row in shares.iterrows()}
    effects = {}
    for (weak, data, seed), own in histograms.items():
        gaps = {(d, s): float(np.abs(own - other).sum() / 2) for (w, d, s), other in histograms.items() if w == weak}
        between = [gap for (d, s), gap in gaps.items() if d != data and s == seed]
        within = [gap for (d, s), gap in gaps.items() if d == data and s != seed]
        if between:
            effects[(data, weak, seed)] = float(np.mean(between)) - (float(np.mean(within)) if within else 0.0)
    used = frame.assign(n_eval=frame.groupby("run_key")["pairs"].transform("sum"), git_commit=None)
    return _measured(effects, [used], "a", ANNOTATOR)


def _values(rows: pd.DataFrame, number: str, match: Sequence[str]) -> Effects:
    key = [*match, "seed"]
    values = dict(zip(rows[key].itertuples(index=False, name=None), rows[number].astype(float)))
    if len(values) < len(rows):
        one_per_seed(rows[rows.duplicated(key, keep=False)])  # raises ResultsError, which names the runs
    return {key: value for key, value in values.items() if not np.isnan(value)}


def _options(columns: Sequence[Effects]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns a table of the options' numbers, a row per cell and seed, a column per option, and notes for the reader.

    `columns` has one entry per option: its numbers. The table omits options that never ran, and each cell and seed for
    which one of the remaining options has no number.
    """
    ran = [column for column in columns if column]
    keys = [key for key in (ran[0] if ran else ()) if all(key in column for column in ran)]
    index = pd.MultiIndex.from_tuples(keys, names=[*ARM, "seed"]) if keys else None
    table = pd.DataFrame([[column[key] for column in ran] for key in keys], index=index)
    some = 0 < len(ran) < len(columns)
    return table, (f"only {len(ran)} of {len(columns)} options were run.",) if some else ()


def _chosen(options: pd.DataFrame, per: Sequence[str]) -> Effects:
    """Returns for each cell and seed the value, such as GRA, that the best option has there.

    Cells with equal values in the columns `per` form a group (per=(): all cells). The best option has the highest mean
    over the group's cells on all other seeds. If the group has only one seed, that seed is used instead. Means are
    rounded, so that equal options tie on every machine; of several best options the first is taken.
    """
    if not len(options):
        return {}
    table = options.assign(rows=1.0)
    group = table.groupby(level=list(per)).transform("sum") if per else table * 0 + table.sum()
    of_seed = table.groupby(level=[*per, "seed"]).transform("sum")
    alone = group["rows"] == of_seed["rows"]
    others = (group - of_seed).where(~alone, group)
    best = others[options.columns].div(others["rows"], axis=0).round(9).to_numpy().argmax(axis=1)
    return dict(zip(options.index, options.to_numpy()[np.arange(len(options)), best].tolist()))


def _measured(
    effects: Effects, rows: Sequence[pd.DataFrame], sides: str, match: Sequence[str], notes: tuple[str, ...] = ()
) -> Measured:
    """Returns the effects as a table without NaN, a row per cell and a column per seed, and the runs they come from.

    If seeds have different cells, the rows are the cells of one seed, and the columns are the seeds that have all these
    cells. That seed is chosen so that the table keeps the most effects; a note counts the effects left out.
    """
    if not effects:
        return Measured(pd.DataFrame(), rows[0].iloc[:0].assign(side=""), notes)
    of_seed = {seed: {key[:-1] for key in effects if key[-1] == seed} for *_, seed in effects}
    cells = max(
        sorted(sorted(some) for some in of_seed.values()),
        key=lambda some: len(some) * sum(set(some) <= have for have in of_seed.values()),
    )
    seeds = sorted(seed for seed, have in of_seed.items() if set(cells) <= have)
    left = len(effects) - len(cells) * len(seeds)
    if left:
        notes += (f"{left} of {len(effects)} pairs of cell and seed left out: not every seed has every cell.",)
    table = pd.DataFrame(
        [[effects[(*cell, seed)] for seed in seeds] for cell in cells],
        index=pd.MultiIndex.from_tuples(cells, names=match),
        columns=pd.Index(seeds, name="seed"),
    )
    taken = {(*cell, seed) for cell in cells for seed in seeds}
    used = [arms[[key in taken for key in arms[[*match, "seed"]].itertuples(index=False, name=None)]] for arms in rows]
    return Measured(table, pd.concat([part.assign(side=side) for part, side in zip(used, sides)]), notes)
