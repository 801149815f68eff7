"""Samples one model's responses to the test prompts, each with a seed of its own (temperature 0.95, section 4.1)."""

from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.runtime import computing_in
from cwpo.stages.base import Stage, Work
from cwpo.store.shards import map_rows

SHARD = 4  # batches whose responses are saved together while the stage runs


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.generation import prompt_seed
    from cwpo.models.policy import context_length, load_tokenizer

    config, folder = work.config, work.parents["model"] / "model"
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    pairs = work.table("prepare", "pairs.parquet", ["pair_id", "prompt", "split"])
    test = pairs[pairs["split"] == "test"]
    prompts, without_room = with_room(test, "test", tokenizer, config.generation.max_new_tokens, context)
    most = config.evaluation.prompts or len(prompts)
    ids = prompts["prompt_id"] if config.text_version is None else sorted(prompts["prompt_id"])
    chosen = ids[:most]  # ids are hashes, so this choice is random, but the same in all runs
    prompts = prompts[prompts["prompt_id"].isin(chosen)].reset_index(drop=True)
    seeds = (prompt_seed(config.seed, config.model_tag, prompt_id) for prompt_id in prompts["prompt_id"])
    prompts = prompts.assign(seed=pd.Series(seeds, dtype="uint64"))
    drawn = {name: config.generation[name] for name in ("temperature", "top_k", "max_new_tokens")}
    if config.generation.engine == "vllm":
        from cwpo.models.vllm_engine import sample_by_vllm

        drawn |= {"python": config.generation.python, "dtype": config.generation.precision}
        texts, seeds = prompts["prompt"].tolist(), prompts["seed"].tolist()
        sampled = sample_by_vllm(folder, tokenizer, texts, seeds, context=context, **drawn)
        table = prompts.join(pd.DataFrame(sampled))
    else:
        table = _by_transformers(work, tokenizer, prompts, drawn)
    table = table.assign(model_tag=config.model_tag)
    columns = ["prompt_id", "prompt", "response", "model_tag", "n_tokens", "truncated"]
    table[columns].to_parquet(work.out / "responses.parquet", index=False)
    truncated = int(table["truncated"].sum())
    summary = {"responses": len(table), "prompts_without_room": without_room, "truncated": truncated}
    if config.text_version is not None:  # the synthetic world's manifests stay as they are
        summary["other_tokens"] = int((~table["same_tokens"]).sum())
    return summary


def with_room(
    pairs: pd.DataFrame, kind: str, tokenizer: Any, most_new: int, context: int | None
) -> tuple[pd.DataFrame, int]:
    """Returns prompt_id and prompt of the pairs whose prompts leave room for `most_new` tokens in `context` tokens, and
    the number of other pairs. Raises InputError about "`kind` prompts" if fewer than 2 leave room."""
    from cwpo.models.generation import leaves_room

    prompts = pairs[["pair_id", "prompt"]].rename(columns={"pair_id": "prompt_id"})
    fitting = prompts[leaves_room(tokenizer, prompts["prompt"].tolist(), most_new, context)]
    if len(fitting) < 2:
        raise InputError(
            f"{len(fitting)} of {len(prompts)} {kind} prompts leave room for generation.max_new_tokens={most_new} "
            f"in a context of {context} tokens, but at least 2 prompts are needed; "
            "lower generation.max_new_tokens or data.max_tokens"
        )
    return fitting, len(prompts) - len(fitting)


def _by_transformers(work: Work, tokenizer: Any, prompts: pd.DataFrame, drawn: dict[str, Any]) -> pd.DataFrame:
    from cwpo.models.generation import sample_responses
    from cwpo.models.policy import as_trained, load_policy

    generation = work.config.generation
    # weights of 16 bits would round merged adapters away
    load = load_policy if generation.precision == "float32" else as_trained
    model = load(work.parents["model"] / "model", device=work.device)

    def sample(part: pd.DataFrame) -> pd.DataFrame:
        with computing_in(generation.precision, work.device):
            rows = sample_responses(
                model,
                tokenizer,
                part["prompt"].tolist(),
                part["seed"].tolist(),
                **drawn,
                batch_size=generation.batch_size,
                token_budget=work.tokens,
                names=part["prompt_id"].tolist(),
            )
        return part.reset_index(drop=True).join(pd.DataFrame(rows))

    return map_rows(prompts, sample, scratch=work.kept(), rows=SHARD * generation.batch_size, progress=work.progress)


GENERATE = Stage("generate", 2, ("generation", "evaluation", "seed", "model_tag", "text_version"), run)
