"""Computes the tables of results/own from the measurements on real pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cwpo.calibration import coverage_accuracy, is_right, mean_difference, share
from cwpo.own.align import preference_accuracy
from cwpo.own.measure import accuracy_numbers, calibration, coverage, votes
from cwpo.own.verdict import verdict
from cwpo.weighting import scaled_sigmoid

LONGER = "longer wins"
ONE_VOTE = "one human vote"
WANTED = 0.65  # default of target_accuracy in scripts/annotate.py


def annotator_rows(tested: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (1) a row per data set and annotator, (2) accuracy per data set, annotator and share of pairs kept.

    Two baselines count as annotators: LONGER prefers the longer response, ONE_VOTE is a human vote (first table only).
    `tested` has a row per test pair: data, annotator, seed, group, gold (1: response `a` is better, 0: `b`), share (of
    votes for `a`), n_votes, vote (one of them), length_a, length_b, gap (score(a) - score(b)), n_train. Pairs of all
    seeds are pooled. Intervals treat the pairs of one group as one draw.
    """
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for data, parts in tested.groupby("data", sort=False):
        for name, part in parts.groupby("annotator", sort=False):
            which, gap = {"data": data, "annotator": name}, part["gap"].to_numpy()
            numbers = _measured(part, gap)
            rows.append(which | _row(part, numbers) | _calibrated(part))
            curves += [which | {"by": "confidence"} | row for row in numbers["coverage"]]
            by_length = coverage(np.abs(_length_gap(part)), is_right(gap, part["gold"]), part["group"].to_numpy())
            curves += [which | {"by": "length gap"} | row for row in by_length]
        first = parts[parts["annotator"] == parts["annotator"].iloc[0]]
        which, numbers = {"data": data, "annotator": LONGER}, _measured(first, _length_gap(first))
        rows.append(which | _row(first, numbers) | {"n_train": 0})
        curves += [which | {"by": "length gap"} | row for row in numbers["coverage"]]
        if (first["n_votes"] > 1).any():
            vote, gold = first["vote"].to_numpy(), first["gold"].to_numpy()
            right = share(np.where(vote == 0.5, 0.5, vote == gold), first["group"])
            which = {"data": data, "annotator": ONE_VOTE, "n_test": len(first)}
            rows.append(which | _named("accuracy", right._asdict()))
    return pd.DataFrame(rows), pd.DataFrame(curves)


def seed_rows(tested: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per data set, annotator and seed: accuracy on all pairs, and on the most confident 30 % of them.

    longer_wins: the accuracy, on the same pairs, of always choosing the longer response.
    """
    rows = []
    for names, part in tested.groupby(["data", "annotator", "seed"], sort=False):
        gap, gold = part["gap"].to_numpy(), part["gold"].to_numpy()
        right = is_right(gap, gold)
        top = coverage_accuracy(np.abs(gap), right, [0.3])[0][1]
        numbers = {
            "n_train": int(part["n_train"].iloc[0]),
            "n_test": len(part),
            "groups": part["group"].nunique(),
            "accuracy": right.mean(),
            "accuracy_top30": top.mean,
            "longer_wins": is_right(_length_gap(part), gold).mean(),
        }
        rows.append(dict(zip(("data", "annotator", "seed"), names, strict=True)) | numbers)
    return pd.DataFrame(rows)


def defaults_rows(tested: pd.DataFrame) -> pd.DataFrame:
    """Compares annotators trained with earlier ("before") and present ("after") defaults of scripts/annotate.py.

    `tested`: the rows of real.by_defaults. Returns a row per data set and annotator, as in annotator_rows. In the row
    of "after", after_minus_before is the gain in accuracy over "before"; NaN until both have all seeds.
    """
    rows = annotator_rows(tested)[0]
    rows = rows[rows["annotator"].isin(tested["annotator"])].reset_index(drop=True)
    for data, part in tested.groupby("data"):
        before, after = (part[part["annotator"] == side] for side in ("before", "after"))
        both = after.merge(before, on=["seed", "pair_id"], suffixes=("", "_before"), validate="one_to_one")
        if not len(before) == len(after) == len(both):  # not all seeds are finished
            continue
        new, old = (is_right(both[gap].to_numpy(), both["gold"].to_numpy()) for gap in ("gap", "gap_before"))
        value = _named("after_minus_before", mean_difference(new, old, both["group"])._asdict())
        rows.loc[(rows["data"] == data) & (rows["annotator"] == "after"), list(value)] = list(value.values())
    return rows.dropna(axis=1, how="all")


def alignment_rows(aligned: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns two tables: a row per arm; a row per pair of arms, with the difference in implicit-reward accuracy."""
    rows = []
    for arm, part in aligned.groupby("arm", sort=False):
        row: dict[str, Any] = {"arm": arm, "seeds": part["seed"].nunique(), "n_test": len(part)}
        row |= {n: part.groupby("seed")[n].first().mean() for n in ("n_train", "labels_right", "mean_weight")}
        accuracies = preference_accuracy(*(part[name].to_numpy() for name in ("before", "after", "group")))
        for name, value in accuracies.items():
            row |= _named(name, value)
        rows.append(row)
    grown = aligned.assign(right=is_right(aligned["after"] - aligned["before"], np.ones(len(aligned))))
    right = {arm: part["right"].to_numpy() for arm, part in grown.groupby("arm", sort=False)}
    groups = aligned[aligned["arm"] == aligned["arm"].iloc[0]]["group"].to_numpy()
    gaps = [
        {"arms": f"{a} - {b}", **_named("implicit", mean_difference(right[a], right[b], groups)._asdict())}
        for a, b in (("cw_po", "ws_bt"), ("cw_po", "human"), ("ws_bt", "human"))
        if {a, b} <= set(right)
    ]
    return pd.DataFrame(rows), pd.DataFrame(gaps)


def _length_gap(part: pd.DataFrame) -> np.ndarray:
    return (part["length_a"] - part["length_b"]).to_numpy(dtype=float)


def _measured(part: pd.DataFrame, gap: np.ndarray) -> dict[str, Any]:
    """Returns the numbers by which `verdict` judges an annotator with the score differences `gap` on pairs `part`."""
    gold, groups = part["gold"].to_numpy(), part["group"].to_numpy()
    agreement = votes(part.assign(prompt=part["group"]), np.abs(gap))
    return accuracy_numbers(gap, gold, _length_gap(part), groups) | {"votes": agreement, "more_labels": None}


def _row(part: pd.DataFrame, numbers: Mapping[str, Any]) -> dict[str, Any]:
    top = next(row for row in numbers["coverage"] if row["coverage"] == 0.3)
    row: dict[str, Any] = {
        "n_train": round(float(part.groupby("seed")["n_train"].first().mean())),
        "n_test": len(part),
        "groups": part["group"].nunique(),
    }
    row |= _named("accuracy", numbers["accuracy"]) | _named("accuracy_top30", top)
    row |= _named("minus_longer", numbers["difference"]["longer"])
    row |= _named("right_more_confident", numbers["discrimination"] or {})
    row |= _named("vote_correlation", (numbers["votes"] or {}).get("rank_correlation") or {})
    advice = verdict(numbers, WANTED)
    return row | {"advice": advice.advice, "advice_coverage": advice.coverage}


def _calibrated(part: pd.DataFrame) -> dict[str, Any]:
    numbers = calibration(part.assign(prompt=part["group"], target=part["gold"]))
    kept = ("temperature", "ece_before", "ece_after", "log_loss_before", "log_loss_after")
    expected = scaled_sigmoid(part["gap"].abs().to_numpy()).mean()
    row = {name: numbers[name] for name in kept} | {"mean_confidence": expected}
    return row | _named("log_loss_change", numbers["log_loss_change"])


def _named(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    ends = {"": "mean", "_low": "low", "_high": "high"}
    return {f"{name}{end}": value[key] for end, key in ends.items() if key in value}
