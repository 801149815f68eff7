"""Trains and tests an annotator, labels and weights pairs, writes a report: the work of scripts/annotate.py."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from cwpo.calibration import fit_temperature
from cwpo.data.chat import read_as
from cwpo.data.lengths import LOOKED_AT
from cwpo.data.own import convert
from cwpo.data.rows import Converted
from cwpo.errors import InputError
from cwpo.own.bar import bar
from cwpo.own.checks import ANNOTATED, check_annotate
from cwpo.own.crossfit import answers, as_learned, cross_fit, fold_counts
from cwpo.own.defaults import begin, with_defaults
from cwpo.own.fit import Annotates, RewardModel, fit_members, load, trained_on
from cwpo.own.folder import is_ours, workplace
from cwpo.own.look import first_look
from cwpo.own.measure import report_numbers
from cwpo.own.page import card, report_page
from cwpo.own.preferences import SHARD, annotate_pairs, first_annotated, has_messages
from cwpo.own.reading import chat_decided, longest, wished
from cwpo.own.verdict import changed, next_step, verdict
from cwpo.runtime import quiet_libraries

LEAST = 20  # labelled pairs that a test needs
LEAST_PROMPTS = 3  # different prompts that are needed: to test, to decide how long to train, and to train on


def label(cfg: Any, say: Callable[[str], None] = print) -> Path | None:
    """Labels and weights the pairs of cfg.data; returns cfg.out. If cfg.show is set, prints some pairs, returns None.

    Writes preferences.parquet and .jsonl, report.html and .json, README.md and, if trained here, the annotator to the
    folder cfg.out, which appears when it is complete and replaces an earlier result. A stopped run, started again with
    equal settings, continues from a hidden folder beside cfg.out. Raises InputError for wrong settings or data.
    """
    if cfg.show is not None:
        quiet_libraries()
        check_annotate(cfg)
        first_look(cfg, say)
        return None
    device, out = begin(cfg, check_annotate)
    given, cfg = cfg, with_defaults(cfg, device, say)
    with workplace(out, cfg, ANNOTATED) as work:
        try:
            numbers = _work(cfg, given, work, device, say)
        except FloatingPointError as error:
            raise InputError(
                f"{error}; the annotator's numbers overflow: lower annotator.training.learning_rate"
            ) from error
    say(f"{numbers['written']:,} weighted pairs. {numbers['verdict']['sentence']}")
    for reason in numbers["verdict"]["reasons"]:
        say(f"  - {reason}")
    say("{}: {}".format(*numbers["next"]))
    for path in sorted(out.iterdir()):
        say(f"  {Path(cfg.out) / path.name}")
    return out


def _work(cfg: Any, given: Any, work: Path, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Does the work of `label` in the folder `work`, with the result in work/out; returns the content of report.json.

    `given`: the user's settings; `cfg`: the same after with_defaults has filled in those left open.
    """
    how = {name: cfg[name] for name in ("ties", "split", "positive")}
    read = convert(cfg.data, work / "read.parquet", cfg.columns, **how)
    cfg = chat_decided(cfg, has_messages(work / "read.parquet"), say)
    _drop_long(work / "read.parquet", work / "pairs.parquet", cfg, read)
    labeled = pq.read_table(work / "pairs.parquet", filters=[("n_votes", ">", 0)]).to_pandas()
    say(f"{read.read:,} rows, {read.kept:,} usable pairs, {len(labeled):,} with a label; left out: {read.drops()}")
    if tied := int((labeled["target"] == 0.5).sum()):
        say(
            f"{tied:,} of them have tied votes: they are trained and tested on, but not written, as neither response won"
        )
    _enough(labeled, read, cfg)
    tested, curve, annotator, old, learned = _annotator(labeled, cfg, work, device, say)
    temperature = fit_temperature(tested["gap"], tested["target"])
    result = work / "out"
    result.mkdir()
    with bar("annotating pairs", say) as progress:
        written = annotate_pairs(
            work / "pairs.parquet",
            result,
            annotator,
            cfg,
            temperature if cfg.calibrate else 1.0,
            scratch=work / "shards",
            progress=progress,
        )
    numbers = report_numbers(tested, curve, first_annotated(result / "preferences.parquet"))
    numbers |= {
        "target_accuracy": cfg.target_accuracy,
        "input": {"read": read.read, "kept": read.kept, "labeled": len(labeled), "dropped": read.dropped},
        "trained_on_before": old,
        "training": learned,
        "written": written,
        "read_as": read_as(wished(cfg.chat)),
        "config": OmegaConf.to_container(cfg),
    }
    advice = verdict(numbers, cfg.target_accuracy)
    numbers["verdict"] = advice._asdict() | {"sentence": advice.sentence}
    numbers |= {"next": next_step(advice, numbers, changed(given)), "about": _about(cfg, numbers)}
    (result / "report.json").write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (result / "report.html").write_text(report_page(numbers), encoding="utf-8")
    (result / "README.md").write_text(card(numbers), encoding="utf-8")
    if (work / "annotator").is_dir():
        shutil.copytree(work / "annotator", result / "annotator")
    return numbers


def _drop_long(source: Path, target: Path, cfg: Any, read: Converted) -> None:
    """Copies pairs within the annotator's token limit from `source` to `target`; adds longer ones to read.dropped."""
    read.kept = 0
    with pq.ParquetFile(source) as pairs, pq.ParquetWriter(target, pairs.schema_arrow) as kept:
        most, count = longest(cfg, next(pairs.iter_batches(LOOKED_AT)).to_pandas())
        for batch in pairs.iter_batches(SHARD):
            table = batch.to_pandas()
            fits = count(table) <= most
            if not fits.all():
                read.dropped.setdefault(f"more_than_{most}_tokens", []).extend(table["row"][~fits].tolist())
            kept.write_batch(batch.filter(pa.array(fits)))
            read.kept += int(fits.sum())


def _enough(labeled: pd.DataFrame, read: Converted, cfg: Any) -> None:
    if not read.labeled and read.unused:
        raise InputError(
            f"data={cfg.data}: no usable pair has a label (left out: {read.drops()}); if an unused column "
            f"({', '.join(read.unused)}) holds labels, name it with +columns.label=..."
        )
    if len(labeled) < LEAST:
        raise InputError(
            f"data={cfg.data}: {len(labeled)} of {read.read} rows have a usable label, and {LEAST} are needed to test "
            f"an annotator (left out: {read.drops()})"
        )
    decided = labeled[labeled["target"] != 0.5]
    if len(decided) < LEAST:
        raise InputError(
            f"data={cfg.data}: {len(decided)} of {len(labeled)} labelled pairs have untied votes; {LEAST} are needed"
        )
    if len(labeled) == read.kept and not cfg.include_labeled:
        raise InputError(
            f"include_labeled=false: all {read.kept} pairs of data={cfg.data} have a label, so none would be written; "
            "set include_labeled=true"
        )
    prompts = labeled["prompt"].nunique()
    folds, _ = fold_counts(len(labeled), cfg)
    least = max(folds, LEAST_PROMPTS + (folds == 2))  # 3 prompts in 2 folds: one fold would have one prompt
    if cfg.annotator.path is None and prompts < least:
        advice = "lower folds, or label" if folds > LEAST_PROMPTS else "label"
        raise InputError(
            f"data={cfg.data}: the labelled pairs have {prompts} different prompts, but folds={folds} needs at least {least}: one in "
            f"each fold, and others to decide how long to train; {advice} pairs of more prompts"
        )


def _annotator(
    labeled: pd.DataFrame, cfg: Any, work: Path, device: str, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame | None, Annotates, int, dict[str, Any] | None]:
    """Trains an annotator on all labelled pairs, or loads the one at annotator.path; tests annotators on unseen pairs.

    Returns (1) the tested pairs, each with the `answers` of an annotator not trained on its prompt, (2) cross_fit's
    table for the learning curve, plus the columns target and prompt, (3) the annotator, (4) the number of labelled
    pairs not tested because a loaded annotator was trained on their prompts, (5) first_fold's result. If the annotator
    was loaded, (2) and (5) are None.
    """
    if cfg.annotator.path is None:
        scratch = work / "folds"
        scratch.mkdir(exist_ok=True)
        held_out, curve, learned = cross_fit(labeled, cfg, scratch, device=device, say=say)
        tested = labeled.merge(held_out, on="pair_id", validate="one_to_one")
        with bar(f"training the annotator on all {len(labeled)} labelled pairs", say) as progress:
            how = as_learned(cfg, learned)
            whole = fit_members(labeled, how, work / "annotator", device=device, progress=progress)
        return tested, curve.merge(labeled[["pair_id", "target", "prompt"]], on="pair_id"), whole, 0, learned
    folder = Path(cfg.annotator.path).expanduser()
    annotator: Annotates = (
        load(folder, device=device, token_budget=cfg.token_budget, chat=wished(cfg.chat))
        if is_ours(cfg.annotator.path)
        else RewardModel(cfg.annotator.path, cfg.revision, device, wished(cfg.chat))
    )
    old = trained_on(folder, labeled["prompt"].tolist())
    new = labeled[~old]
    if len(new) < LEAST:
        raise InputError(
            f"annotator.path={cfg.annotator.path} was trained on the prompts of {int(old.sum())} of the {len(labeled)} labelled pairs; "
            f"at least {LEAST} pairs with other prompts are needed to test it"
        )
    say(f"testing {cfg.annotator.path} on {len(new)} labelled pairs")
    table = answers(new, annotator.gaps(new))
    return new.merge(table, on="pair_id", validate="one_to_one"), None, annotator, int(old.sum()), None


def _about(cfg: Any, numbers: dict[str, Any]) -> str:
    given, name = numbers["input"], {"bt": "Bradley-Terry", "pairrm": "PairRM"}[cfg.annotator.kind]
    who = (
        f"The reward model {cfg.annotator.path}"
        if cfg.annotator.path
        else f"A {name} annotator trained from {cfg.model}"
    )
    if cfg.annotator.members > 1 and not cfg.annotator.path:
        who += f" ({cfg.annotator.members} of them, their mean)"
    tested = f"tested on {numbers['pairs']:,} labelled pairs with {numbers['prompts']:,} prompts"
    if cfg.annotator.path is None:
        tested += " that it had not been trained on"
    elif numbers["trained_on_before"]:
        tested += f"; {numbers['trained_on_before']:,} labelled pairs it had been trained on were left out of the test"
    data = re.split(r"[\\/]", cfg.data)[-1]
    return (
        f"{who}, {tested}. {given['kept'] - given['labeled']:,} pairs of {data} had no label. "
        f"Prompts: {numbers['read_as']}. Seed {cfg.seed}."
    )
