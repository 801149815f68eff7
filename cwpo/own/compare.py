"""Compares two models: both answer the same prompts, a gold judge scores the answers, a page shows samples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.atomic import new_file
from cwpo.calibration import Share, share
from cwpo.config.schema import SYNTHETIC_GOLDS
from cwpo.data.chat import read_as, reads_chat
from cwpo.data.encoding import Text, plain_texts
from cwpo.data.rows import read_prompts
from cwpo.errors import InputError
from cwpo.models.generation import leaves_room, prompt_seed, sample_responses
from cwpo.models.gold import Judge, Oracle
from cwpo.models.policy import context_length, load_policy, load_tokenizer, readable
from cwpo.models.reward_models import load_reward
from cwpo.own.checks import COMPARED, check_compare
from cwpo.own.defaults import begin
from cwpo.own.fit import Annotator, load, prompt_digest
from cwpo.own.folder import checkpoint_of, is_ours, read_note, workplace
from cwpo.own.reading import naming, template_used
from cwpo.own.verdict import percent
from cwpo.pages import render
from cwpo.statistics import paired_difference

MODELS = ("before", "after")
SHOWN = 50  # samples on the page
CHUNK = 256  # prompts whose tokens are counted at a time


def compare(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Compares two models; writes comparison.json, samples.jsonl and samples.html to cfg.out; returns this folder."""
    device, out = begin(cfg, check_compare)
    gold = load_judge(cfg, device)
    with workplace(out, cfg, COMPARED) as work:
        prompts, left_out, chat = _prompts(cfg, say)
        say(f"prompts for {cfg.gold}: {read_as(_reads_chat(gold))}")
        table = pd.DataFrame({"prompt": [plain_texts(prompt, "")[0] for prompt in prompts]})
        _check_judge(cfg, gold, prompts)
        other_tokens = {}
        for name in MODELS:
            file = work / f"{name}.parquet"
            if not file.is_file():
                say(f"{name}: {len(prompts)} responses of {cfg[name]}")
                _sample(prompts, name, cfg, device, chat[name], file)
            samples = pd.read_parquet(file)
            table[[name, f"{name}_truncated"]] = samples[["response", "truncated"]]
            other_tokens[name] = int((~samples["same_tokens"]).sum())
        _add_rewards(table, prompts, cfg, gold)
        numbers = summary(table) | {
            "before": str(cfg.before),
            "after": str(cfg.after),
            "gold": str(cfg.gold),
            "seed": cfg.seed,
            "prompts_without_room": left_out,
            "read_as": {**{name: read_as(chat[name]) for name in MODELS}, "gold": read_as(_reads_chat(gold))},
            "other_tokens": other_tokens,
        }
        result = work / "out"
        result.mkdir()
        table.to_json(result / "samples.jsonl", orient="records", lines=True, force_ascii=False)
        (result / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        (result / "samples.html").write_text(page(table, numbers), encoding="utf-8")
    say(in_words(numbers))
    for name in ("comparison.json", "samples.jsonl", "samples.html"):
        say(f"  {Path(cfg.out) / name}")
    return out


def load_judge(cfg: Any, device: str) -> Any:
    """Returns the judge that cfg.gold names: "oracle" or "judge" (the synthetic world's exact or noisy reward), an
    annotator trained by cwpo, or any reward model. Raises InputError for a PairRM annotator."""
    if cfg.gold in SYNTHETIC_GOLDS:
        return Oracle() if cfg.gold == "oracle" else Judge(1.0)
    if not is_ours(cfg.gold):
        return load_reward(cfg.gold, cfg.revision, batch_size=cfg.batch_size, device=device)
    if read_note(cfg.gold)["kind"] == "pairrm":
        raise InputError(
            f"gold={cfg.gold} is a PairRM: it compares two responses and gives no reward; name another judge"
        )
    return load(Path(cfg.gold).expanduser(), device=device)


def _reads_chat(gold: Any) -> bool:
    """Returns whether the judge reads conversations through its chat template; if not, it reads them as plain text."""
    return bool(reads_chat(gold.tokenizer)) if isinstance(gold, Annotator) else getattr(gold, "chat", False)


def _check_judge(cfg: Any, gold: Any, prompts: list[Text]) -> None:
    """Raises InputError if the judge cannot score the answers to some prompt.

    The judges of the synthetic world score its prompts only. The context of others must hold a prompt and
    cfg.max_new_tokens.
    """
    if isinstance(gold, (Oracle, Judge)):
        try:
            gold.rewards([plain_texts(prompt, "")[0] for prompt in prompts], [""] * len(prompts))
        except ValueError as error:
            raise InputError(f"prompts={cfg.prompts}: {error}") from None
        return
    context = readable(gold.tokenizer, checkpoint_of(cfg.gold), cfg.revision)
    with naming(_named(prompts)):
        lengths = gold.lengths(prompts, [""] * len(prompts))  # with the EOS that max_new_tokens counts, too
    long = sum(context is not None and length - 1 + cfg.max_new_tokens > context for length in lengths)
    if long:
        raise InputError(
            f"gold={cfg.gold} reads at most {context} tokens, and {long} of {len(lengths)} prompts "
            f"leave no room for max_new_tokens={cfg.max_new_tokens}; lower max_new_tokens, use shorter prompts, or "
            "name another judge in gold="
        )


def _check_lengths(cfg: Any, gold: Any, judged: Iterable[tuple[Sequence[Text], list[Text]]]) -> None:
    """Raises InputError if a prompt with its response, in the judge's tokens, is longer than the judge's context."""
    if not hasattr(gold, "lengths"):
        return
    context = readable(gold.tokenizer, checkpoint_of(cfg.gold), cfg.revision)
    longest = max(max(gold.lengths(*texts)) for texts in judged)
    if context is not None and longest > context:
        raise InputError(
            f"gold={cfg.gold} reads at most {context} tokens, and a prompt with its response has {longest} of them; lower "
            f"max_new_tokens={cfg.max_new_tokens}, use shorter prompts, or another judge"
        )


def _add_rewards(table: pd.DataFrame, prompts: Sequence[Text], cfg: Any, gold: Any) -> None:
    judged = {name: _judged(prompts, table, name, gold) for name in MODELS}
    _check_lengths(cfg, gold, judged.values())
    for name in MODELS:
        table[f"{name}_reward"] = gold.rewards(*judged[name])
    alike = table["before"] == table["after"]  # they tie, though rounding differs between the batches they stood in
    table.loc[alike, "after_reward"] = table.loc[alike, "before_reward"]


def _judged(prompts: Sequence[Text], table: pd.DataFrame, name: str, gold: Any) -> tuple[Sequence[Text], list[Text]]:
    """Returns (prompts, responses of the model `name`) in the form that the judge reads.

    Oracle and Judge read plain texts. For other judges, if the prompt is a list of messages, the response becomes a
    list of one message; otherwise it is plain text.
    """
    responses = table[name].tolist()
    if isinstance(gold, (Oracle, Judge)):
        return table["prompt"].tolist(), responses
    return prompts, [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text.removeprefix(" ")}]
        for prompt, text in zip(prompts, responses, strict=True)
    ]


def _prompts(cfg: Any, say: Callable[[str], None]) -> tuple[list[Text], int, dict[str, bool]]:
    """Returns the first cfg.most distinct prompts that leave room for a response in both models' contexts, the number
    of prompts without room, and {model: whether its chat template is used}, decided on the first CHUNK prompts."""
    chat: dict[str, bool] = {}
    kept: list[Text] = []
    seen, distinct = 0, _distinct(cfg)
    while len(kept) < cfg.most and (chunk := list(itertools.islice(distinct, CHUNK))):
        if not chat:
            messages = not all(isinstance(prompt, str) for prompt in chunk)
            chat = {name: template_used(cfg[name], None, cfg.chat, messages, say) for name in MODELS}
        with naming(_named(chunk)):
            rooms = [
                leaves_room(
                    load_tokenizer(cfg[name], chat=chat[name]), chunk, cfg.max_new_tokens, context_length(cfg[name])
                )
                for name in MODELS
            ]
        kept += [prompt for prompt, *fits in zip(chunk, *rooms, strict=True) if all(fits)]
        seen += len(chunk)
    if len(kept) < 2:
        raise InputError(
            f"prompts={cfg.prompts}: {len(kept)} of {seen} different prompts leave room for "
            f"max_new_tokens={cfg.max_new_tokens} in both models' contexts; 2 are needed"
        )
    return kept[: cfg.most], seen - len(kept), chat


def _named(prompts: Sequence[Text]) -> list[str]:
    return [f"the prompt {plain_texts(prompt, '')[0][:80]!r}" for prompt in prompts]


def _distinct(cfg: Any) -> Iterator[Text]:
    """Yields each distinct prompt of the table cfg.prompts once."""
    seen: set[str] = set()
    for prompt in read_prompts(cfg.prompts, cfg.column, cfg.split):
        text = plain_texts(prompt, "")[0]
        if text not in seen:
            seen.add(text)
            yield prompt


def _sample(prompts: list[Text], name: str, cfg: Any, device: str, chat: bool, file: Path) -> None:
    samples = sample_responses(
        load_policy(cfg[name], device=device),
        load_tokenizer(cfg[name], chat=chat),
        prompts,
        [prompt_seed(cfg.seed, name, prompt_digest(plain_texts(prompt, "")[0])) for prompt in prompts],
        temperature=cfg.temperature,
        max_new_tokens=cfg.max_new_tokens,
        batch_size=cfg.batch_size,
    )
    with new_file(file) as partial:
        pd.DataFrame(samples).to_parquet(partial, index=False)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the comparison's numbers from `table`, a row per prompt. InputError if a reward is NaN or infinite.

    win_rate: how often `after` has the higher reward; a tie counts 1/2 (see win_rate_of). tie_rate: the share of ties.
    reward_difference: mean reward of `after` minus that of `before`, with 95 % bootstrap interval over prompts.
    truncated, characters: for each model, the share of truncated responses and the mean length of responses.
    """
    before, after = table["before_reward"].to_numpy(), table["after_reward"].to_numpy()
    broken = int((~np.isfinite(before)).sum() + (~np.isfinite(after)).sum())
    if broken:
        raise InputError(f"gold: {broken} of {2 * len(table)} rewards are NaN or infinite; name another judge")
    wins = (after > before) + 0.5 * (after == before)
    return {
        "prompts": len(table),
        "win_rate": win_rate_of(wins)._asdict(),
        "tie_rate": float((after == before).mean()),
        "reward_difference": paired_difference(after, before)._asdict(),
        "truncated": {name: float(table[f"{name}_truncated"].mean()) for name in MODELS},
        "characters": {name: float(table[name].str.len().mean()) for name in MODELS},
    }


def win_rate_of(wins: np.ndarray) -> Share:
    """Returns the mean of `wins`, (N,), with its 95 % interval; each value is 1 (a win), 1/2 (a tie) or 0 (a loss).

    The interval is Wilson's over the prompts without a tie, moved towards 1/2 by the share of ties; ties alone give
    [1/2, 1/2]. A bootstrap interval would be [1, 1] for three wins in three prompts.
    """
    decided = wins[wins != 0.5]
    if not len(decided):
        return Share(0.5, 0.5, 0.5, len(wins))
    part, found = len(decided) / len(wins), share(decided)
    mean, low, high = (0.5 + part * (value - 0.5) for value in found[:3])
    return Share(mean, low, high, len(wins))


def in_words(numbers: dict[str, Any]) -> str:
    win, gap, cut = (numbers[name] for name in ("win_rate", "reward_difference", "truncated"))
    found = "better" if win["low"] > 0.5 else "worse" if win["high"] < 0.5 else "not told apart"
    return (
        f"{found}: after wins {percent(win)} of {numbers['prompts']} prompts, ties "
        f"({numbers['tie_rate']:.1%}) counted half; reward {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]; "
        f"mean length {numbers['characters']['before']:.0f} before, {numbers['characters']['after']:.0f} after; "
        f"cut at max_new_tokens {cut['before']:.0%} before, {cut['after']:.0%} after"
    )


def page(table: pd.DataFrame, numbers: dict[str, Any]) -> str:
    """Returns an HTML page with the first SHOWN samples side by side; every text is escaped."""
    samples = table.head(SHOWN).to_dict("records")
    return render("comparison.html.jinja", numbers=numbers, samples=samples, summary=in_words(numbers))
