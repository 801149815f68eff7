"""Before and after: two models answer the same prompts, a reward model judges, the answers stand side by side."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.tables import read_column
from cwpo.errors import InputError
from cwpo.models.generation import leaves_room, prompt_seed, sample_responses
from cwpo.models.gold import Gold, HuggingFace, Oracle
from cwpo.models.policy import checkpoint_problem, context_length, load_policy, load_tokenizer
from cwpo.own.page import STYLE
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.statistics import bootstrap_interval, paired_difference

SHOWN = 50  # samples on the page


def compare(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Write comparison.json, samples.jsonl and samples.html under cfg.out; say the win rate with its interval."""
    check(cfg)
    use_threads(cfg.threads)
    quiet_libraries()
    device = pick_device(cfg.device)
    prompts = list(dict.fromkeys(read_column(cfg.prompts, cfg.column)))
    fits = np.ones(len(prompts), dtype=bool)
    for name in ("before", "after"):
        room = leaves_room(load_tokenizer(cfg[name]), prompts, cfg.max_new_tokens, context_length(cfg[name]))
        fits &= np.array(room, dtype=bool)
    kept = [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit][: cfg.most]
    if len(kept) < 2:
        raise InputError(
            f"prompts={cfg.prompts}: {len(kept)} of {len(prompts)} prompts leave room for max_new_tokens={cfg.max_new_tokens} in both models' contexts"
        )
    table = pd.DataFrame({"prompt": kept})
    for name in ("before", "after"):
        say(f"{name}: {len(kept)} responses of {cfg[name]}")
        tokenizer = load_tokenizer(cfg[name])
        samples = sample_responses(
            load_policy(cfg[name], device=device),
            tokenizer,
            kept,
            [prompt_seed(cfg.seed, name, _digest(prompt)) for prompt in kept],
            temperature=cfg.temperature,
            max_new_tokens=cfg.max_new_tokens,
            batch_size=cfg.batch_size,
        )
        table[name] = [sample["response"] for sample in samples]
        table[f"{name}_truncated"] = [sample["truncated"] for sample in samples]
    gold: Gold = (
        Oracle()
        if cfg.gold == "oracle"
        else HuggingFace(cfg.gold, cfg.revision, batch_size=cfg.batch_size, device=device)
    )
    for name in ("before", "after"):
        table[f"{name}_reward"] = gold.rewards(kept, table[name].tolist())
    numbers = summary(table) | {
        "before": str(cfg.before),
        "after": str(cfg.after),
        "gold": str(cfg.gold),
        "seed": cfg.seed,
        "prompts_without_room": int((~fits).sum()),
    }
    _write(Path(cfg.out).expanduser(), table, numbers)
    win, gap = numbers["win_rate"], numbers["reward_difference"]
    say(
        f"after wins {win['mean']:.1%} [{win['low']:.1%}, {win['high']:.1%}] of {numbers['prompts']} prompts, ties ({numbers['tie_rate']:.1%}) counted half; "
        f"reward {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    )
    for name in ("comparison.json", "samples.jsonl", "samples.html"):
        say(f"  {Path(cfg.out) / name}")
    return Path(cfg.out)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Win rate of `after` (ties half), tie rate and reward difference, with 95 % bootstrap intervals over prompts."""
    before, after = table["before_reward"].to_numpy(), table["after_reward"].to_numpy()
    wins = (after > before) + 0.5 * (after == before)
    return {
        "prompts": len(table),
        "win_rate": bootstrap_interval(wins)._asdict(),
        "tie_rate": float((after == before).mean()),
        "reward_difference": paired_difference(after, before)._asdict(),
        "truncated": {name: float(table[f"{name}_truncated"].mean()) for name in ("before", "after")},
    }


def check(cfg: Any) -> None:
    """InputError with every problem of the settings."""
    problems = [p for name in ("before", "after") if (p := checkpoint_problem(cfg[name], name))]
    if cfg.gold != "oracle" and (problem := checkpoint_problem(cfg.gold, "gold")):
        problems.append(problem)
    for key in ("most", "max_new_tokens", "temperature", "batch_size", "threads"):
        if not cfg[key] > 0:
            problems.append(f"{key}={cfg[key]} must be positive")
    out = Path(cfg.out).expanduser()
    if out.exists() and not (out / "comparison.json").is_file() and any(out.iterdir()):
        problems.append(f"out={cfg.out} holds other files; name a new folder")
    if problems:
        raise InputError(problems)


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _write(out: Path, table: pd.DataFrame, numbers: dict[str, Any]) -> None:
    """All three files, or none: the folder appears when it is complete."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    table.to_json(partial / "samples.jsonl", orient="records", lines=True, force_ascii=False)
    (partial / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (partial / "samples.html").write_text(_page(table, numbers), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)


def _page(table: pd.DataFrame, numbers: dict[str, Any]) -> str:
    win = numbers["win_rate"]
    rows = "".join(
        f"<h2>{html.escape(row.prompt)}</h2><div class=wide><table><tr><th>before ({row.before_reward:.2f})</th><th>after ({row.after_reward:.2f})</th></tr>"
        f"<tr><td class=text>{html.escape(row.before)}</td><td class=text>{html.escape(row.after)}</td></tr></table></div>"
        for row in table.head(SHOWN).itertuples()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Before and after</title><style>{STYLE}.text{{white-space:pre-wrap;text-align:left;vertical-align:top;width:50%}}"
        "h2{white-space:pre-wrap;font-weight:normal}th{text-align:left}</style><body><h1>Before and after</h1>"
        f"<p>{html.escape(numbers['after'])} wins {win['mean']:.1%} [{win['low']:.1%}, {win['high']:.1%}] of {numbers['prompts']} prompts against "
        f"{html.escape(numbers['before'])}, judged by {html.escape(numbers['gold'])}; the first {min(SHOWN, len(table))} prompts.</p>{rows}</body></html>\n"
    )
