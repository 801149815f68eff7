"""Responses of one model to the test prompts, each with a seed of its own (temperature 0.95, section 4.1)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.runtime import computing_in
from cwpo.stages.base import Stage, Work


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.generation import leaves_room, prompt_seed, sample_responses
    from cwpo.models.policy import context_length, load_policy, load_tokenizer
    from cwpo.models.vllm_engine import sample_by_vllm

    config = work.config
    folder = work.parents["model"] / "model"
    tokenizer = load_tokenizer(folder)
    pairs = pd.read_parquet(work.parents["prepare"] / "pairs.parquet", columns=["pair_id", "prompt", "split"])
    prompts = pairs[pairs["split"] == "test"].rename(columns={"pair_id": "prompt_id"})[
        ["prompt_id", "prompt"]
    ]
    context = context_length(folder)
    new, seed, tag = config.generation.max_new_tokens, config.seed, config.model_tag
    fitting = prompts[leaves_room(tokenizer, prompts["prompt"].tolist(), new, context)]
    if len(fitting) < 2:
        raise InputError(
            f"{len(fitting)} of {len(prompts)} test prompts leave room for generation.max_new_tokens="
            f"{new} in a context of {context} tokens; lower it or data.max_tokens"
        )
    table = fitting.head(config.evaluation.prompts) if config.evaluation.prompts else fitting
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        work.progress(done, len(table))

    seeds = [prompt_seed(seed, tag, prompt_id) for prompt_id in table["prompt_id"]]
    drawn = {
        "temperature": config.generation.temperature,
        "top_k": config.generation.top_k,
        "max_new_tokens": new,
    }
    if config.generation.engine == "vllm":
        results = sample_by_vllm(
            folder,
            tokenizer,
            table["prompt"].tolist(),
            seeds,
            context=context,
            python=config.generation.python,
            dtype=config.generation.precision,
            **drawn,
        )
    else:
        with computing_in(config.generation.precision, work.device):  # the weights stay float32
            results = sample_responses(
                load_policy(folder, device=work.device),
                tokenizer,
                table["prompt"].tolist(),
                seeds,
                **drawn,
                batch_size=config.generation.batch_size,
                token_budget=work.token_budget,
                progress=progress,
                names=table["prompt_id"].tolist(),
            )
    table = table.reset_index(drop=True).join(pd.DataFrame(results)).assign(model_tag=tag)
    columns = ["prompt_id", "prompt", "response", "model_tag", "n_tokens", "truncated"]
    table[columns].to_parquet(work.out / "responses.parquet", index=False)
    summary = {
        "responses": len(table),
        "prompts_without_room": len(prompts) - len(fitting),
        "truncated": int(table["truncated"].sum()),
    }
    if config.text_version is not None:  # the synthetic world's manifests stay as they are
        summary["other_tokens"] = int((~table["same_tokens"]).sum())
    return summary


GENERATE = Stage("generate", 1, ("generation", "evaluation", "seed", "model_tag", "text_version"), run)
