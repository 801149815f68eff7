"""Aligns a model on weighted pairs and writes it to a folder with a model card: the work of scripts/align.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cwpo.calibration import is_right, mean_difference, share
from cwpo.data.chat import read_as
from cwpo.data.encoding import encode_pairs
from cwpo.data.labels import chosen_rejected
from cwpo.data.lengths import check_words
from cwpo.data.own import convert
from cwpo.data.own_texts import as_conversations
from cwpo.data.rows import Converted
from cwpo.errors import InputError
from cwpo.models.card import training_metrics, write_card
from cwpo.models.packed import score_pairs
from cwpo.models.policy import context_length, load_tokenizer
from cwpo.own.checks import ALIGNED, check_align
from cwpo.own.defaults import begin, with_defaults
from cwpo.own.fit import training_in
from cwpo.own.folder import workplace
from cwpo.own.reading import naming, template_used, wished
from cwpo.own.verdict import percent
from cwpo.own.weighted import keep_confident, read_weighted
from cwpo.runtime import computing_in, stand_in
from cwpo.store.store import git_commit
from cwpo.training.fit import Start, adapted, fit_preference, fit_sft

Say = Callable[[str], None]


def align(cfg: Any, say: Say = print) -> Path:
    """Aligns cfg.model on the pairs of cfg.preferences; returns cfg.out, the folder of model, card and alignment.json.

    The folder appears only when it is complete. Unless sft.epochs=0, the model is fine-tuned on the chosen responses
    first, and cfg.out/sft keeps the fine-tuned model. A stopped run, started again with equal settings, continues from
    its last checkpoint. Raises InputError for wrong settings or data.
    """
    device, out = begin(cfg, check_align)
    cfg = with_defaults(cfg, device, say)
    with workplace(out, cfg, ALIGNED) as work:
        table, read = read_weighted(cfg.preferences, cfg.weight_column, cfg.preferences_split)
        messages = bool(table["messages"].notna().any())
        chat = template_used(cfg.model, cfg.revision, cfg.chat, messages, say)
        cfg = OmegaConf.merge(cfg, {"chat": str(chat).lower()})
        sure = keep_confident(table, cfg.keep, cfg.preferences)
        unsure = f"; keep={cfg.keep} leaves out {len(table) - len(sure):,} labels" if cfg.keep < 1 else ""
        table = _fitting(sure, cfg, f"preferences={cfg.preferences}", read)
        replaced = stand_in([cfg.sft.optimizer, cfg.alignment.optimizer], device)
        if replaced:
            say(replaced)
        say(f"{read.read:,} rows, {len(table):,} pairs to learn from; left out: {read.drops()}{unsure}")
        tested = _test_pairs(cfg, work, table["prompt"], say)
        result = work / "out"
        try:
            before, history = _trained(table, cfg, work, device, say)
        except FloatingPointError as error:
            raise InputError(f"{error}; lower alignment.learning_rate or sft.learning_rate") from error
        measured = None
        if tested is not None:
            first = margins(before, tested, cfg, device)
            last = margins(replace(before, path=result, revision=None), tested, cfg, device)
            measured = preference_accuracy(first, last, tested["prompt"].to_numpy())
        _describe(result, cfg, table, read, history, measured)
        if cfg.sft.epochs:
            shutil.copytree(work / "sft", result / "sft")
    for name, value in in_words(measured).items():
        say(f"{name}: {value}")
    say(f"  {cfg.out}: the aligned model, README.md is its card")
    if cfg.sft.epochs:
        say(f"  {Path(cfg.out) / 'sft'}: the model before preference optimisation")
        words = f"before={cfg.out}/sft after={cfg.out} prompts=<file> gold=<reward model> out=compared"
        say(f"Compare both: python scripts/compare.py {words}")
    return out


def _trained(table: pd.DataFrame, cfg: Any, work: Path, device: str, say: Say) -> tuple[Start, list[dict[str, Any]]]:
    """Fine-tunes cfg.model into work/sft unless sft.epochs=0, and aligns it into work/out.

    Returns (model before alignment, training curve of alignment).
    """
    before = _start(cfg)
    if cfg.sft.epochs:
        before = replace(before, path=work / "sft", revision=None)
        if not (work / "sft").is_dir():
            say(f"fine-tuning {cfg.model} on the chosen responses")
            fine_tune(table, cfg, work / "sft", device, say)
    say("preference optimisation")
    return before, optimise(table, before, cfg, work / "out", device, say)


def _describe(
    result: Path,
    cfg: Any,
    table: pd.DataFrame,
    read: Converted,
    history: list[dict[str, Any]],
    measured: dict[str, Any] | None,
) -> None:
    """Writes the model card and alignment.json to `result`. `measured`: what preference_accuracy returned, or None."""
    sources = table["label_source"].fillna("given").map(str).value_counts().sort_index()
    facts = {
        "data": Path(cfg.preferences).name,
        "pairs, by label": ", ".join(f"{n:,} {who}" for who, n in sources.items()),
        "prompts": read_as(wished(cfg.chat)),
        "objective": f"{cfg.objective}, beta {cfg.beta}, {cfg.alignment.epochs} epochs",
        "most confident share kept": cfg.keep,
        "seed": cfg.seed,
    }
    metrics = {"pairs": len(table), "mean weight": round(float(table["weight"].mean()), 4)}
    write_card(result, cfg.model, facts, metrics | training_metrics(history) | in_words(measured))
    numbers = {
        "read": read.read,
        "pairs": len(table),
        "dropped": read.dropped,
        "test": measured,
        "curve": history,
        "git_commit": git_commit(),
        "config": OmegaConf.to_container(cfg),
    }
    (result / "alignment.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def fine_tune(table: pd.DataFrame, cfg: Any, folder: Path, device: str, say: Say) -> None:
    """Fine-tunes cfg.model on prompt + chosen response of every pair; writes `folder`, which appears when complete."""
    with training_in(folder, device, cfg.token_budget, log=_log(say)) as site:
        fit_sft(
            site,
            _names(table),
            *as_conversations(table, "chosen"),
            start=_start(cfg),
            training=cfg.sft,
            lora=cfg.lora,
            seed=cfg.seed,
        )


def _names(table: pd.DataFrame) -> list[str]:
    """Returns each pair's name for messages: "row 7" from the column `row`; without it "pair 7", counted from 0."""
    return [f"row {row}" for row in table["row"]] if "row" in table else [f"pair {i}" for i in range(len(table))]


def optimise(table: pd.DataFrame, before: Start, cfg: Any, folder: Path, device: str, say: Say) -> list[dict[str, Any]]:
    """Aligns the model `before` on weighted pairs and writes the aligned model to `folder`.

    Returns the training curve, a dict per logged step.
    """
    with training_in(folder, device, cfg.token_budget, log=_log(say)) as site:
        return fit_preference(
            site,
            _examples(table),
            start=before,
            training=cfg.alignment,
            lora=cfg.lora,
            seed=cfg.seed,
            objective=cfg.objective,
            beta=cfg.beta,
            flip_rate=cfg.flip_rate,
            average_logps=cfg.average_logps,
        ).curve


def _examples(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns one dict per pair for PreferenceTrainer: pair_id, prompt, chosen, rejected and weight."""
    texts = zip(*as_conversations(table, "chosen", "rejected"), strict=True)
    return [
        {"pair_id": name, "prompt": prompt, "chosen": chosen, "rejected": rejected, "weight": weight}
        for name, (prompt, chosen, rejected), weight in zip(_names(table), texts, table["weight"], strict=True)
    ]


def margins(start: Start, pairs: pd.DataFrame, cfg: Any, device: str) -> np.ndarray:
    """Returns log p(chosen) - log p(rejected) of each pair, (N,), in nats, under the model at `start`.

    The model is loaded as for training. So before and after alignment its frozen weights are the same, even if
    lora.base_dtype rounds them.
    """
    tokenizer = load_tokenizer(start.path, start.revision, chat=start.chat)
    model = adapted(start, cfg.lora, cfg.seed, device)
    rows = encode_pairs(tokenizer, *as_conversations(pairs, "chosen", "rejected"))
    with computing_in(cfg.alignment.precision, device):
        chosen, rejected = score_pairs(model, rows, tokenizer.pad_token_id, cfg.token_budget)
    return (chosen - rejected).double().numpy()


def preference_accuracy(before: np.ndarray, after: np.ndarray, prompts: np.ndarray) -> dict[str, Any]:
    """Returns how often a model prefers people's choice, from the `margins` of N test pairs before and after alignment.

    Each value is a dict: mean, low, high, n. likelihood_before and _after: the share of pairs whose chosen response is
    more likely than the rejected one; likelihood_change: their difference. implicit: the share whose margin grew, so
    that the chosen response has the higher implicit reward, beta log(p after / p before); 1/2 is chance. Intervals
    treat the pairs of a prompt as one draw.
    """

    def wins(x: np.ndarray) -> np.ndarray:
        return is_right(x, np.ones(len(x)))

    return {
        "likelihood_before": share(wins(before), prompts)._asdict(),
        "likelihood_after": share(wins(after), prompts)._asdict(),
        "likelihood_change": mean_difference(wins(after), wins(before), prompts)._asdict(),
        "implicit": share(wins(after - before), prompts)._asdict(),
    }


def in_words(measured: dict[str, Any] | None) -> dict[str, str]:
    """Returns {description: value as text} of the three accuracies that preference_accuracy returned; {} for None."""
    names = {
        "likelihood_before": "prefers people's choice on test pairs, before",
        "likelihood_after": "prefers people's choice on test pairs, after",
        "implicit": "implicit-reward accuracy on test pairs",
    }
    shown = {} if measured is None else {name: measured[key] for key, name in names.items()}
    return {name: f"{percent(value)} of {value['n']:,}" for name, value in shown.items()}


def _fitting(table: pd.DataFrame, cfg: Any, source: str, read: Converted) -> pd.DataFrame:
    """Returns the pairs that have a prompt and fit the token limit; adds all other pairs to read.dropped.

    Raises InputError if fewer than 2 pairs are left.
    """
    tokenizer = load_tokenizer(cfg.model, cfg.revision, chat=wished(cfg.chat))
    check_words(tokenizer, table["chosen"].tolist(), cfg.model)
    most = min(cfg.max_tokens, context_length(cfg.model, cfg.revision) or cfg.max_tokens)
    with naming([f"{source}: {name}" for name in _names(table)]):
        rows = encode_pairs(tokenizer, *as_conversations(table, "chosen", "rejected"))
    long = np.array([max(len(r["chosen_ids"]), len(r["rejected_ids"])) > most for r in rows], dtype=bool)
    bare = np.array([r["chosen_start"] == 0 for r in rows], dtype=bool)
    for reason, mask in ((f"more_than_{most}_tokens", long), ("empty_prompt", bare & ~long)):
        if mask.any():
            read.dropped.setdefault(reason, []).extend(table["row"][mask].tolist())
    kept = table[~(long | bare)].reset_index(drop=True)
    if len(kept) < 2:
        raise InputError(f"{source}: {len(kept)} of {read.read} rows can be used, 2 are needed ({read.drops()})")
    return kept


def _test_pairs(cfg: Any, work: Path, trained_on: pd.Series, say: Say) -> pd.DataFrame | None:
    """Returns by_label of the labelled pairs in cfg.test that fit the token limit; None if cfg.test is None.

    Prints how many pairs are left out and why, and how many of the returned pairs have a prompt in `trained_on`.
    """
    if cfg.test is None:
        return None
    read = convert(cfg.test, work / "test.parquet", cfg.columns, split=cfg.split, positive=cfg.positive)
    pairs = pd.read_parquet(work / "test.parquet")
    bare = pairs["n_votes"] == 0
    if bare.any():
        read.dropped["unlabeled"] = pairs["row"][bare].tolist()
    if bare.all():
        raise InputError(f"test={cfg.test} has no labelled pairs; name a table with labels, or leave test out")
    pairs = _fitting(by_label(pairs[~bare]), cfg, f"test={cfg.test}", read)
    say(f"test={cfg.test}: {read.read:,} rows, {len(pairs):,} labelled pairs to test on; left out: {read.drops()}")
    if known := int(pairs["prompt"].isin(trained_on).sum()):
        say(f"  the model is trained on the prompts of {known:,} of them, so it will look better than it is")
    return pairs


def by_label(pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns labelled, untied pairs as prompt, chosen (the response the label prefers), rejected, row, messages."""
    texts = chosen_rejected(pairs, pairs["target"] > 0.5).assign(messages=pairs.get("messages"))
    return texts[["prompt", "chosen", "rejected", "row", "messages"]].reset_index(drop=True)


def _start(cfg: Any) -> Start:
    return Start(cfg.model, cfg.revision, wished(cfg.chat))


def _log(say: Say) -> Callable[[Mapping[str, float], int], None]:
    def log(values: Mapping[str, float], step: int) -> None:
        right = values.get("rewards/accuracies")
        also = "" if right is None else f", rewards/accuracies {right:.3f}"
        say(f"  step {step}: loss {values['loss']:.4f}{also}")

    return log
