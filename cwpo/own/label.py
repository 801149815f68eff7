"""The whole of `scripts/annotate.py`: read, cross-fit, judge, train on all labels, annotate, weight, write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from cwpo.calibration import fit_temperature
from cwpo.data.batching import encode_pairs
from cwpo.data.own import Converted, convert
from cwpo.errors import InputError
from cwpo.models.policy import checkpoint_problem, context_length, load_tokenizer
from cwpo.own.fit import Gaps, cross_fit, fit_members, gaps_of_reward_model
from cwpo.own.measure import report_numbers
from cwpo.own.page import card, report_page
from cwpo.own.verdict import verdict
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.stages.shards import map_table
from cwpo.store import fingerprint, stage_key
from cwpo.weighting import pair_weights, scaled_sigmoid

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "weight", "confidence", "margin", "label_source"]
LEAST = 20  # labelled pairs


def label(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Write preferences.parquet and .jsonl, report.html and .json, README.md and the annotator under cfg.out.

    Work goes on where a stopped run with the same settings left it, in a folder beside cfg.out that is removed at the end;
    cfg.out appears when everything is complete.
    """
    check(cfg)
    use_threads(cfg.threads)
    quiet_libraries()
    device = pick_device(cfg.device)
    out = Path(cfg.out).expanduser()
    if out.exists() and not (out / "report.json").is_file() and any(out.iterdir()):
        raise InputError(f"out={cfg.out} holds other files; name a new folder")
    work = out.with_name(f".{out.name}-{_key(cfg)}")
    work.mkdir(parents=True, exist_ok=True)
    read = convert(cfg.data, work / "read.parquet", dict(cfg.columns), ties=cfg.ties, split=cfg.split)
    _drop_long(work / "read.parquet", work / "pairs.parquet", cfg, read)
    labeled = pq.read_table(work / "pairs.parquet", filters=[("n_votes", ">", 0)]).to_pandas()
    _enough(labeled, read, cfg)
    say(f"{read.read} rows, {len(labeled)} of {read.kept} usable pairs have a label")
    tested, curve, gaps = _annotator(labeled, cfg, work, device, say)
    temperature = fit_temperature(tested["gap"], tested["target"]) if cfg.calibrate else 1.0
    result = work / "out"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    scores = _score_unlabeled(work, gaps, say)
    numbers = report_numbers(tested, curve, scores)
    numbers |= {
        "target_accuracy": cfg.target_accuracy,
        "verdict": verdict(numbers, cfg.target_accuracy)._asdict(),
        "input": {"read": read.read, "kept": read.kept, "labeled": len(labeled), "dropped": read.dropped},
        "temperature_used": temperature,
        "config": OmegaConf.to_container(cfg),
    }
    numbers["about"] = _about(cfg, numbers)
    written = _write_preferences(work, result, cfg, temperature)
    (result / "report.json").write_text(
        json.dumps(numbers, indent=1, default=_plain) + "\n", encoding="utf-8"
    )
    (result / "report.html").write_text(report_page(numbers), encoding="utf-8")
    (result / "README.md").write_text(card(numbers), encoding="utf-8")
    if (work / "annotator").is_dir():
        shutil.copytree(work / "annotator", result / "annotator")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(result, out)
    shutil.rmtree(work)
    say(f"{written} weighted pairs; {numbers['verdict']['title']}")
    for name in sorted(path.name for path in out.iterdir()):
        say(f"  {out / name}")
    return out


def check(cfg: Any) -> None:
    """InputError with every problem of the settings; loads no weights."""
    problems = []
    if cfg.annotator_path is None and cfg.model is None:
        problems.append("name a model to train (model=) or a trained reward model (annotator_path=)")
    for key in ("model", "annotator_path"):
        if cfg[key] is not None:
            problem = checkpoint_problem(cfg[key], key)
            problems += [problem] if problem else []
    for key in ("max_tokens", "members", "folds", "threads"):
        if cfg[key] < (2 if key == "folds" else 1):
            problems.append(f"{key}={cfg[key]} must be at least {2 if key == 'folds' else 1}")
    if not 0.5 < cfg.target_accuracy < 1:
        problems.append(f"target_accuracy={cfg.target_accuracy} must lie between 0.5 and 1")
    if any(not 0 < part < 1 for part in cfg.curve):
        problems.append(f"curve={list(cfg.curve)}: shares of the training pairs lie between 0 and 1")
    if cfg.weighting not in ("uniform", "c1", "c2", "c3", "c4"):
        problems.append(f"weighting={cfg.weighting} is unknown; valid: uniform, c1, c2, c3, c4")
    for key in ("epochs", "learning_rate", "batch_size"):
        if not cfg.training[key] > 0:
            problems.append(f"training.{key}={cfg.training[key]} must be positive")
    if problems:
        raise InputError(problems)


def _key(cfg: Any) -> str:
    """What a stopped run must share with this one for its work to be of use."""
    settings: Any = OmegaConf.to_container(cfg)
    plain = {k: v for k, v in settings.items() if k not in ("out", "threads", "device", "token_budget")}
    for name in ("data", "model", "annotator_path"):
        if plain[name] is not None and Path(plain[name]).expanduser().exists():
            plain[name] = fingerprint(plain[name])
    return stage_key("own", 1, plain, {})[:8]


def _drop_long(source: Path, target: Path, cfg: Any, read: Converted) -> None:
    """Pairs of which no sequence is above max_tokens or the model's context; the others are counted."""
    path = cfg.annotator_path or cfg.model
    tokenizer = load_tokenizer(path, cfg.revision)
    most = min(cfg.max_tokens, context_length(path, cfg.revision) or cfg.max_tokens)

    def fitting(pairs: pd.DataFrame) -> pd.DataFrame:
        rows = encode_pairs(
            tokenizer, *(pairs[name].tolist() for name in ("prompt", "response_a", "response_b"))
        )
        fits = np.array([max(len(r["chosen_ids"]), len(r["rejected_ids"])) <= most for r in rows], dtype=bool)
        if not fits.all():
            read.dropped.setdefault(f"more_than_{most}_tokens", []).extend(pairs["row"][~fits].tolist())
        return pairs[fits]

    columns = pq.read_schema(source).names
    scratch = target.with_suffix(".shards")
    shutil.rmtree(scratch, ignore_errors=True)  # the counts must be those of all rows
    map_table(source, target, columns, fitting, scratch=scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    read.kept = pq.read_metadata(target).num_rows


def _enough(labeled: pd.DataFrame, read: Converted, cfg: Any) -> None:
    drops = ", ".join(f"{reason} {len(rows)}" for reason, rows in read.dropped.items()) or "none"
    if len(labeled) < LEAST:
        raise InputError(
            f"data={cfg.data}: {len(labeled)} of {read.read} rows have a usable label, {LEAST} are needed to tell anything "
            f"(left out: {drops})"
        )
    prompts = labeled["prompt"].nunique()
    if cfg.annotator_path is None and prompts < cfg.folds:
        raise InputError(
            f"data={cfg.data}: the labelled pairs have {prompts} different prompts, and testing on unseen prompts in folds={cfg.folds} "
            "needs as many; lower folds, or label pairs of more prompts"
        )


def _annotator(
    labeled: pd.DataFrame, cfg: Any, work: Path, device: str, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame, Gaps]:
    """Held-out gaps of labelled pairs, the learning curve, and the annotator of the rest."""
    if cfg.annotator_path is not None:
        gaps = gaps_of_reward_model(cfg, device)
        members = gaps(labeled)
        tested = labeled.assign(gap=members.mean(axis=0), spread=members.std(axis=0))
        return tested, tested.assign(share=1.0, n_train=0), gaps
    scratch = work / "folds"
    scratch.mkdir(exist_ok=True)
    held_out, curve = cross_fit(labeled, cfg, scratch, device=device, say=say)
    tested = labeled.merge(held_out, on="pair_id", validate="one_to_one")
    curve = curve.merge(labeled[["pair_id", "target"]], on="pair_id")
    say(f"training the annotator on all {len(labeled)} labelled pairs")
    return tested, curve, fit_members(labeled, cfg, work / "annotator", device=device)


def _score_unlabeled(work: Path, gaps: Gaps, say: Callable[[str], None]) -> pd.DataFrame:
    """Gaps of the pairs without a label, kept in scores.parquet; of the first of them also the texts."""

    def score(pairs: pd.DataFrame) -> pd.DataFrame:
        pairs = pairs[pairs["n_votes"] == 0]
        members = gaps(pairs) if len(pairs) else np.zeros((1, 0))
        return pd.DataFrame(
            {"pair_id": pairs["pair_id"], "gap": members.mean(axis=0), "spread": members.std(axis=0)}
        )

    def progress(done: int, total: int) -> None:
        say(f"annotating: {done} of {total} pairs")

    columns = ["pair_id", "prompt", "response_a", "response_b", "n_votes"]
    source = work / "pairs.parquet"
    map_table(
        source,
        work / "scores.parquet",
        columns,
        score,
        scratch=work / "shards",
        progress=progress,
        rows=5_000,
    )
    first = next(pq.ParquetFile(source).iter_batches(20_000, columns=columns)).to_pandas()
    return first[first["n_votes"] == 0].merge(pd.read_parquet(work / "scores.parquet"), on="pair_id")


def _write_preferences(work: Path, result: Path, cfg: Any, temperature: float) -> int:
    """preferences.parquet and preferences.jsonl, chunk by chunk; returns the pairs written."""
    scores = pd.read_parquet(work / "scores.parquet").set_index("pair_id")
    written = 0
    schema = pa.schema(
        [(n, pa.float64() if n in ("weight", "confidence", "margin") else pa.string()) for n in COLUMNS]
    )
    with (
        pq.ParquetWriter(result / "preferences.parquet", schema) as table,
        (result / "preferences.jsonl").open("w", encoding="utf-8") as lines,
    ):
        for batch in pq.ParquetFile(work / "pairs.parquet").iter_batches(10_000):
            part = preferences(batch.to_pandas(), scores, cfg, temperature)
            table.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
            part.to_json(lines, orient="records", lines=True, force_ascii=False)
            written += len(part)
    return written


def preferences(pairs: pd.DataFrame, scores: pd.DataFrame, cfg: Any, temperature: float) -> pd.DataFrame:
    """COLUMNS of every pair: by people's label with weight 1 where there is one (unless include_labeled is off), else the annotator's."""
    human = pairs["n_votes"].to_numpy() > 0
    gap = pairs["pair_id"].map(scores["gap"]).to_numpy(dtype=float) / temperature
    a_wins = np.where(human, pairs["target"].to_numpy() > 0.5, gap >= 0)
    margin = np.where(human, np.nan, np.abs(gap))
    scale = {"c3": 1.0, "c4": 0.2}.get(cfg.weighting, 1.0)
    weight = np.ones(len(pairs))
    weight[~human] = pair_weights(cfg.weighting, margin[~human], scale)
    confidence = np.full(len(pairs), np.nan)
    confidence[~human] = scaled_sigmoid(margin[~human])
    table = pd.DataFrame(
        {
            "pair_id": pairs["pair_id"],
            "prompt": pairs["prompt"],
            "chosen": pairs["response_a"].where(a_wins, pairs["response_b"]),
            "rejected": pairs["response_b"].where(a_wins, pairs["response_a"]),
            "weight": weight,
            "confidence": confidence,
            "margin": margin,
            "label_source": np.where(human, "human", "annotator"),
        }
    )
    tied = human & (pairs["target"].to_numpy() == 0.5)
    return table[~tied & ~(human & (not cfg.include_labeled))][COLUMNS]


def _about(cfg: Any, numbers: dict[str, Any]) -> str:
    given = numbers["input"]
    who = (
        f"The reward model {cfg.annotator_path}"
        if cfg.annotator_path
        else f"A Bradley-Terry annotator on {cfg.model}"
    )
    if cfg.members > 1:
        who += f" ({cfg.members} of them, their mean)"
    tested = f"tested on {numbers['pairs']:,} labelled pairs of {numbers['prompts']:,} prompts"
    if cfg.annotator_path is None:
        tested += " that it had not been trained on"
    return f"{who}, {tested}; {given['kept'] - given['labeled']:,} pairs of {Path(cfg.data).name} without a label. Seed {cfg.seed}."


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
