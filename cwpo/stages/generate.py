"""Responses of one model to the test prompts, each with a seed of its own (temperature 0.95, section 4.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.runtime import computing_in
from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.policy import context_length, load_tokenizer

    folder = work.parents["model"] / "model"
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    prompts, without_room = _prompts(work, tokenizer, context)
    sample = _by_vllm if work.config.generation.engine == "vllm" else _by_transformers
    table = prompts.join(pd.DataFrame(sample(work, folder, tokenizer, prompts, context)))
    table = table.assign(model_tag=work.config.model_tag)
    columns = ["prompt_id", "prompt", "response", "model_tag", "n_tokens", "truncated"]
    table[columns].to_parquet(work.out / "responses.parquet", index=False)
    summary = {
        "responses": len(table),
        "prompts_without_room": without_room,
        "truncated": int(table["truncated"].sum()),
    }
    if work.config.text_version is not None:  # the synthetic world's manifests stay as they are
        summary["other_tokens"] = int((~table["same_tokens"]).sum())
    return summary


def _prompts(work: Work, tokenizer: Any, context: int | None) -> tuple[pd.DataFrame, int]:
    """prompt_id and prompt of the first evaluation.prompts test prompts that leave room for a response, and how many do not."""
    from cwpo.models.generation import leaves_room

    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet", columns=["pair_id", "prompt", "split"])
    prompts = pairs[pairs["split"] == "test"].rename(columns={"pair_id": "prompt_id"}).drop(columns="split")
    new = work.config.generation.max_new_tokens
    fitting = prompts[leaves_room(tokenizer, prompts["prompt"].tolist(), new, context)]
    if len(fitting) < 2:
        raise InputError(
            f"{len(fitting)} of {len(prompts)} test prompts leave room for generation.max_new_tokens="
            f"{new} in a context of {context} tokens; lower it or data.max_tokens"
        )
    most = work.config.evaluation.prompts or len(fitting)
    return fitting.head(most).reset_index(drop=True), len(prompts) - len(fitting)


def _drawn(work: Work, prompts: pd.DataFrame) -> tuple[list[int], dict[str, Any]]:
    """A seed for each prompt, and how tokens are drawn."""
    from cwpo.models.generation import prompt_seed

    config = work.config
    seeds = [prompt_seed(config.seed, config.model_tag, prompt_id) for prompt_id in prompts["prompt_id"]]
    return seeds, {name: config.generation[name] for name in ("temperature", "top_k", "max_new_tokens")}


def _by_vllm(
    work: Work, folder: Path, tokenizer: Any, prompts: pd.DataFrame, context: int | None
) -> list[dict[str, Any]]:
    from cwpo.models.vllm_engine import sample_by_vllm

    generation = work.config.generation
    seeds, drawn = _drawn(work, prompts)
    place = {"context": context, "python": generation.python, "dtype": generation.precision}
    return sample_by_vllm(folder, tokenizer, prompts["prompt"].tolist(), seeds, **place, **drawn)


def _by_transformers(
    work: Work, folder: Path, tokenizer: Any, prompts: pd.DataFrame, context: int | None
) -> list[dict[str, Any]]:
    from cwpo.models.generation import sample_responses
    from cwpo.models.policy import as_trained, load_policy

    precision = work.config.generation.precision
    load = load_policy if precision == "float32" else as_trained  # 16 bits would round merged adapters away
    seeds, drawn = _drawn(work, prompts)
    counts: list[int] = []

    def progress(count: int) -> None:
        counts.append(count)
        work.progress(sum(counts), len(prompts))

    with computing_in(precision, work.device):
        return sample_responses(
            load(folder, device=work.device),
            tokenizer,
            prompts["prompt"].tolist(),
            seeds,
            **drawn,
            batch_size=work.config.generation.batch_size,
            token_budget=work.tokens,
            progress=progress,
            names=prompts["prompt_id"].tolist(),
        )


GENERATE = Stage("generate", 1, ("generation", "evaluation", "seed", "model_tag", "text_version"), run)
