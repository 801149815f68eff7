"""Comparisons: from the arms of an experiment to one effect per cell and seed.

A measure is a function of the evidence and of the name of a number ("gra", "reward", "accuracy", ...). A cell is one
combination of the columns in `match`; arms are compared within a cell and a seed only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cwpo.report.claims.evidence import Evidence
from cwpo.report.collect import one_per_seed

Where = Mapping[str, Any]
ARM = ("data", "weak", "strong", "objective")
ANNOTATOR = ("data", "weak")


@dataclass(frozen=True)
class Measured:
    """`effects`: rows are cells, columns are seeds, no gaps. `used`: the rows of the runs that entered, with their `side`."""

    effects: pd.DataFrame
    used: pd.DataFrame
    notes: tuple[str, ...] = field(default=())

    @property
    def by_seed(self) -> pd.Series:
        """The mean effect over cells of every seed."""
        return self.effects.mean(axis=0)

    @property
    def by_cell(self) -> pd.Series:
        """The mean effect over seeds of every cell."""
        return self.effects.mean(axis=1)


Measure = Callable[[Evidence, str], Measured]


@dataclass(frozen=True)
class Term:
    """`factor` times a number of the arms that meet `where`; `side` says to which of the two compared sides they belong."""

    factor: float
    side: str
    where: Where


def select(frame: pd.DataFrame, where: Where) -> pd.DataFrame:
    """The rows that meet every condition; numbers may differ in the last digits."""
    meets = np.ones(len(frame), dtype=bool)
    for column, wanted in where.items():
        if isinstance(wanted, str):
            meets &= (frame[column] == wanted).to_numpy()
        else:
            meets &= np.isclose(frame[column].to_numpy(dtype=float), wanted)
    return frame[meets]


def contrast(terms: Sequence[Term], *, match: Sequence[str] = ARM, table: str = "arms") -> Measure:
    """The sum of the terms within each cell and seed that has all of them."""

    def measure(evidence: Evidence, number: str) -> Measured:
        frame = getattr(evidence, table)
        rows = [select(frame, term.where) for term in terms]
        parts = [_values(found, number, match) for found in rows]
        total = sum(term.factor * part for term, part in zip(terms, parts))
        used = [found.assign(side=term.side) for found, term in zip(rows, terms)]
        return _measured(total.dropna(), pd.concat(used), match)

    return measure


def over_best(
    challenger: Where,
    rivals: Sequence[Where],
    *,
    match: Sequence[str] = ARM,
    per: Sequence[str] = (),
) -> Measure:
    """The challenger less the rival that is best in the *other* seeds, chosen for each value of `per` (all cells: ()).

    Choosing on the seed itself would favour the rivals: the best of many noisy numbers is too good. With one seed there is
    no other, and it is chosen on itself.
    """

    def measure(evidence: Evidence, number: str) -> Measured:
        options, notes = _options(evidence, rivals, number, match)
        against = _chosen(options, per)
        own = _values(select(evidence.arms, challenger), number, match)
        used = [select(evidence.arms, challenger).assign(side="a")]
        used += [select(evidence.arms, where).assign(side="b") for where in rivals]
        return _measured((own - against).dropna(), pd.concat(used), match, notes)

    return measure


def own_choice_pays(
    options_where: Sequence[Where], *, match: Sequence[str] = ARM, per: Sequence[str]
) -> Measure:
    """What choosing the best option for each value of `per` gains over one choice for all of them.

    Both are chosen on the other seeds. Above 0 only if the best option really differs between the values of `per`. The one
    choice is common to the cells that agree in the other columns of `match`.
    """

    def measure(evidence: Evidence, number: str) -> Measured:
        options, notes = _options(evidence, options_where, number, match)
        common = [name for name in match if name not in per]
        gain = _chosen(options, list(match)) - _chosen(options, common)
        used = [select(evidence.arms, where).assign(side="a") for where in options_where]
        return _measured(gain.dropna(), pd.concat(used), match, notes)

    return measure


def saving(mine: Where, others: Sequence[Where], *, match: Sequence[str] = ANNOTATOR) -> Measure:
    """By how many percent `mine` is below the least of `others`, annotators compared."""

    def measure(evidence: Evidence, number: str) -> Measured:
        frame = evidence.annotators
        own = _values(select(frame, mine), number, match)
        rest = [_values(select(frame, where), number, match) for where in others]
        least = pd.concat(rest, axis=1).dropna().min(axis=1)
        used = [select(frame, mine).assign(side="a")]
        used += [select(frame, where).assign(side="b") for where in others]
        return _measured((100 * (1 - own / least)).dropna(), pd.concat(used), match)

    return measure


def confidence_distance(evidence: Evidence, number: str) -> Measured:
    """How much more the histograms of confidence differ between data sets than between seeds of one data set.

    The difference of two histograms is the total variation distance, in [0, 1]. Per weak model and seed: mean distance
    between data sets within the seed, less the mean distance of the seed's histograms to the same data set's of other seeds.
    """
    del number  # histograms have only one
    frame = evidence.confidences
    frame = frame[frame["annotator"] == "bt"]
    counts = frame.pivot_table(index=["weak", "data", "seed"], columns="low", values="pairs", aggfunc="sum")
    shares = counts.fillna(0).div(counts.sum(axis=1), axis=0) if len(counts) else counts
    found = {}
    for (weak, data, seed), own in shares.iterrows():
        rest = [
            (d, s, _distance(own, row))
            for (w, d, s), row in shares.iterrows()
            if w == weak and (d, s) != (data, seed)
        ]
        between = [gap for d, s, gap in rest if d != data and s == seed]
        within = [gap for d, s, gap in rest if d == data and s != seed]
        if between:
            noise = float(np.mean(within)) if within else 0.0
            found[(data, weak, seed)] = float(np.mean(between)) - noise
    index = pd.MultiIndex.from_tuples(found, names=[*ANNOTATOR, "seed"]) if found else None
    used = frame.assign(side="a", n_eval=frame.groupby("run_key")["pairs"].transform("sum"), git_commit=None)
    return _measured(pd.Series(found.values(), index=index, dtype=float), used, ANNOTATOR)


def _distance(a: pd.Series, b: pd.Series) -> float:
    return float((a - b).abs().sum() / 2)


def _values(rows: pd.DataFrame, number: str, match: Sequence[str]) -> pd.Series:
    key = [*match, "seed"]
    if rows.duplicated(key).any():
        one_per_seed(rows[rows.duplicated(key, keep=False)])  # raises ResultsError, which names the runs
    return rows.set_index(key)[number].astype(float)


def _options(
    evidence: Evidence, wheres: Sequence[Where], number: str, match: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Cells and seeds by options, without options that never ran and cells that lack one of the others."""
    columns = {i: _values(select(evidence.arms, where), number, match) for i, where in enumerate(wheres)}
    table = pd.DataFrame(columns).dropna(axis=1, how="all").dropna()
    some = 0 < len(table.columns) < len(wheres)
    return table, (f"only {len(table.columns)} of {len(wheres)} options were run.",) if some else ()


def _chosen(options: pd.DataFrame, per: Sequence[str]) -> pd.Series:
    """Each row's value of the option that is best, in the mean, over the rows of its group that are of other seeds."""
    if not len(options):
        return pd.Series(index=options.index, dtype=float)
    table = options.assign(rows=1.0)
    group = table.groupby(level=list(per)).transform("sum") if per else table * 0 + table.sum()
    of_seed = table.groupby(level=[*per, "seed"]).transform("sum")
    alone = group["rows"] == of_seed["rows"]
    others = (group - of_seed).where(~alone, group)
    best = others[options.columns].div(others["rows"], axis=0).round(9).to_numpy().argmax(axis=1)
    return pd.Series(options.to_numpy()[np.arange(len(options)), best], index=options.index, dtype=float)


def _measured(
    effects: pd.Series, used: pd.DataFrame, match: Sequence[str], notes: tuple[str, ...] = ()
) -> Measured:
    """Cells by seeds without gaps: of the sets of cells that some seed has, the one that keeps most cells times seeds."""
    if not len(effects):
        return Measured(pd.DataFrame(), used.iloc[:0], notes)
    table = effects.unstack("seed").sort_index()
    kept = table
    if table.isna().to_numpy().any():
        have = table.notna()
        sets = {tuple(have.index[have[seed]]) for seed in table.columns}
        cells = max(sorted(sets), key=lambda some: len(some) * int(have.loc[list(some)].all().sum()))
        kept = table.loc[list(cells)].dropna(axis=1)
        left = len(effects) - kept.size
        notes += (
            f"{left} of {len(effects)} pairs of cell and seed left out: not every seed has every cell.",
        )
    taken = set(kept.index)
    inside = [cell in taken for cell in used[list(match)].itertuples(index=False, name=None)]
    return Measured(kept, used[np.array(inside) & used["seed"].isin(kept.columns).to_numpy()], notes)
