"""Before and after: two models answer the same prompts, a gold adapter judges, the answers stand side by side."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.files import read_column
from cwpo.errors import InputError
from cwpo.models.generation import leaves_room, prompt_seed, sample_responses
from cwpo.models.gold import Gold, Judge, Oracle
from cwpo.models.policy import context_length, load_policy, load_tokenizer
from cwpo.models.reward_models import HuggingFace
from cwpo.own.checks import check_compare
from cwpo.own.fit import is_ours, load, read_note
from cwpo.own.folder import replace_folder, workplace
from cwpo.own.page import document, escape
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.statistics import bootstrap_interval, paired_difference

MODELS = ("before", "after")
SHOWN = 50  # samples on the page
CHUNK = 256  # prompts measured at a time
STYLE = (
    ".side{display:grid;grid-template-columns:1fr 1fr;gap:1rem}.side div{white-space:pre-wrap}"
    "h2{white-space:pre-wrap;font-weight:normal;font-size:1rem;border-top:1px solid #ddd;padding-top:1rem}"
    "@media(max-width:40rem){.side{grid-template-columns:1fr}}"
)


def compare(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Write comparison.json, samples.jsonl and samples.html under cfg.out; say the win rate with its interval."""
    quiet_libraries()
    check_compare(cfg)
    use_threads(cfg.threads)
    device, out = pick_device(cfg.device), Path(cfg.out).expanduser()
    gold = load_judge(cfg, device)
    with workplace(out, cfg, ("before", "after", "prompts", "gold")) as work:
        prompts, left_out = _prompts(cfg)
        table = pd.DataFrame({"prompt": prompts})
        for name in MODELS:
            file = work / f"{name}.parquet"
            if not file.is_file():
                say(f"{name}: {len(prompts)} responses of {cfg[name]}")
                _sample(prompts, name, cfg, device).to_parquet(file, index=False)
            samples = pd.read_parquet(file)
            table[[name, f"{name}_truncated"]] = samples[["response", "truncated"]]
        for name in MODELS:
            table[f"{name}_reward"] = gold.rewards(prompts, table[name].tolist())
        numbers = summary(table) | {
            "before": str(cfg.before),
            "after": str(cfg.after),
            "gold": str(cfg.gold),
            "seed": cfg.seed,
            "prompts_without_room": left_out,
        }
        result = work / "out"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        table.to_json(result / "samples.jsonl", orient="records", lines=True, force_ascii=False)
        (result / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        (result / "samples.html").write_text(page(table, numbers), encoding="utf-8")
        replace_folder(result, out)
    say(in_words(numbers))
    for name in ("comparison.json", "samples.jsonl", "samples.html"):
        say(f"  {Path(cfg.out) / name}")
    return out


def load_judge(cfg: Any, device: str) -> Gold:
    """The gold adapter that cfg.gold names: oracle, judge, an annotator trained here, or any reward model."""
    if cfg.gold in ("oracle", "judge"):
        return Oracle() if cfg.gold == "oracle" else Judge(1.0)
    if not is_ours(cfg.gold):
        return HuggingFace(cfg.gold, cfg.revision, batch_size=cfg.batch_size, device=device)
    if read_note(cfg.gold)["kind"] == "pairrm":
        raise InputError(f"gold={cfg.gold} is a PairRM: it compares and gives no reward; name another judge")
    return load(Path(cfg.gold).expanduser(), device=device)


def _prompts(cfg: Any) -> tuple[list[str], int]:
    """The first cfg.most different prompts that leave room in both contexts, and how many were passed over."""
    readers = [(load_tokenizer(cfg[name]), context_length(cfg[name])) for name in MODELS]
    seen: dict[str, bool] = {}

    def judge(new: list[str]) -> None:
        rooms = [leaves_room(reader, new, cfg.max_new_tokens, context) for reader, context in readers]
        for prompt, *fits in zip(new, *rooms, strict=True):
            seen[prompt] = all(fits)

    waiting: list[str] = []
    for prompt in read_column(cfg.prompts, cfg.column):
        if prompt in seen or prompt in waiting:
            continue
        waiting.append(prompt)
        if len(waiting) == CHUNK:
            judge(waiting)
            waiting = []
            if sum(seen.values()) >= cfg.most:
                break
    if waiting:
        judge(waiting)
    kept = [prompt for prompt, fits in seen.items() if fits][: cfg.most]
    if len(kept) < 2:
        raise InputError(
            f"prompts={cfg.prompts}: {len(kept)} of {len(seen)} different prompts leave room for "
            f"max_new_tokens={cfg.max_new_tokens} in both models' contexts; 2 are needed"
        )
    return kept, len(seen) - sum(seen.values())


def _sample(prompts: list[str], name: str, cfg: Any, device: str) -> pd.DataFrame:
    samples = sample_responses(
        load_policy(cfg[name], device=device),
        load_tokenizer(cfg[name]),
        prompts,
        [prompt_seed(cfg.seed, name, _digest(prompt)) for prompt in prompts],
        temperature=cfg.temperature,
        max_new_tokens=cfg.max_new_tokens,
        batch_size=cfg.batch_size,
    )
    return pd.DataFrame(samples)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Win rate of `after` (ties half), tie rate and reward difference, with 95 % bootstrap intervals over prompts."""
    before, after = table["before_reward"].to_numpy(), table["after_reward"].to_numpy()
    broken = int((~np.isfinite(before)).sum() + (~np.isfinite(after)).sum())
    if broken:
        raise InputError(f"gold gives {broken} of {2 * len(table)} rewards that are NaN or infinite")
    wins = (after > before) + 0.5 * (after == before)
    return {
        "prompts": len(table),
        "win_rate": bootstrap_interval(wins)._asdict(),
        "tie_rate": float((after == before).mean()),
        "reward_difference": paired_difference(after, before)._asdict(),
        "truncated": {name: float(table[f"{name}_truncated"].mean()) for name in MODELS},
        "characters": {name: float(table[name].str.len().mean()) for name in MODELS},
    }


def in_words(numbers: dict[str, Any]) -> str:
    win, gap = numbers["win_rate"], numbers["reward_difference"]
    return (
        f"after wins {win['mean']:.1%} [{win['low']:.1%}, {win['high']:.1%}] of {numbers['prompts']} prompts, ties "
        f"({numbers['tie_rate']:.1%}) counted half; reward {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]; "
        f"mean length {numbers['characters']['before']:.0f} before, {numbers['characters']['after']:.0f} after"
    )


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def page(table: pd.DataFrame, numbers: dict[str, Any]) -> str:
    """The first SHOWN samples side by side; every text is escaped."""
    rows = "".join(
        f"<h2>{escape(row.prompt)}</h2><div class=side><div><strong>before ({row.before_reward:.2f})</strong>\n{escape(row.before)}</div>"
        f"<div><strong>after ({row.after_reward:.2f})</strong>\n{escape(row.after)}</div></div>"
        for row in table.head(SHOWN).itertuples()
    )
    about = f"Before: {numbers['before']}. After: {numbers['after']}. Judge: {numbers['gold']}. {in_words(numbers)}."
    shown = f"The first {min(SHOWN, len(table))} of {len(table)} prompts:"
    return document(
        "Before and after",
        f"<h1>Before and after</h1><p>{escape(about)}</p><p>{shown}</p>{rows}",
        STYLE,
    )
