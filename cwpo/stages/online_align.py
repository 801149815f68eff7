"""Online preference optimisation: the policy's own responses, compared by a reward (appendix J.5, Tables 21 and 22)."""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.stages.base import Stage, Work
from cwpo.weighting import pair_weights


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.generation import leaves_room
    from cwpo.models.policy import add_lora, context_length, load_policy, load_tokenizer
    from cwpo.training.base import Curve, training_arguments
    from cwpo.training.online import OnlineTrainer, Sampling, counts
    from cwpo.training.saving import merged

    config, generation = work.config, work.config.generation
    folder = work.parents["sft"] / "model"
    tokenizer = load_tokenizer(folder)
    context = context_length(folder)
    table = pd.read_parquet(work.parents["select"] / "selected.parquet", columns=["pair_id", "prompt"])
    table = table.rename(columns={"pair_id": "prompt_id"})
    prompts = table[leaves_room(tokenizer, table["prompt"].tolist(), generation.max_new_tokens, context)]
    if len(prompts) < 2:
        raise InputError(
            f"{len(prompts)} of {len(table)} training prompts leave room for generation.max_new_tokens="
            f"{generation.max_new_tokens} in a context of {context} tokens; lower it or data.max_tokens"
        )
    model = load_policy(folder, device=work.device)
    settings = model.generation_config
    if config.lora.enabled:
        model = add_lora(
            model,
            r=config.lora.r,
            alpha=config.lora.alpha,
            dropout=0.0,
            targets=config.lora.targets,
            seed=config.seed,
        )
    trainer = OnlineTrainer(
        model,
        training_arguments(
            config.alignment, work.out, rows=len(prompts), seed=config.seed, device=work.device
        ),
        prompts.to_dict("records"),
        reference=load_policy(folder, device=work.device).requires_grad_(False),
        context=context,
        reward=_reward(work),
        weights=functools.partial(_weights, config.weighting),
        sampling=Sampling(
            temperature=generation.temperature,
            top_k=generation.top_k,
            max_new_tokens=generation.max_new_tokens,
            batch_size=generation.batch_size,
            batches_per_round=config.online.batches_per_round,
            seed=config.seed,
        ),
        processing_class=tokenizer,
        objective=config.objective.name,
        beta=config.objective.beta,
        flip_rate=config.objective.flip_rate,
        average_logps=config.objective.average_logps,
        callbacks=[Curve(work.tracker.log, work.progress)],
    )
    result = trainer.train()
    counted = counts(trainer.pairs)
    if not counted["n_train"]:
        raise InputError(
            f"nothing to learn from: all {counted['sampled']} sampled pairs were dropped ({counted}); raise "
            "generation.temperature, or use another online.reward"
        )
    pd.DataFrame(trainer.pairs).to_parquet(work.out / "responses.parquet", index=False)
    model = merged(model)
    model.generation_config = settings  # sampling set its own
    model.save_pretrained(work.out / "model")
    tokenizer.save_pretrained(work.out / "model")
    return {
        **counted,
        "rounds": trainer.pairs[-1]["round"] + 1,
        "prompts_without_room": len(table) - len(prompts),
        "train_seconds": round(result.metrics["train_runtime"], 3),
    }


def _weights(weighting: Any, gaps: Any) -> Any:
    return pair_weights(weighting.name, gaps, weighting.scale)


def _reward(work: Work) -> Any:
    """The annotator, the reward model trained here, or the checkpoint online.reward_model."""
    from cwpo.models.gold import Trained
    from cwpo.models.policy import context_length
    from cwpo.models.reward import Reward
    from cwpo.models.reward_models import ChatReward, HuggingFace

    online = work.config.online
    settings = {"batch_size": online.batch_size, "device": work.device}
    if "reward" in work.parents:
        folder = work.parents["reward"] / "model"
        return Reward(Trained(folder, **settings), context_length(folder))
    context = context_length(online.reward_model, online.reward_revision)
    kind = ChatReward if online.reward_chat else HuggingFace
    return Reward(kind(online.reward_model, online.reward_revision, **settings), context)


ONLINE_ALIGN = Stage(
    "online_align",
    1,
    ("alignment", "objective", "lora", "weighting", "generation", "online", "seed", "text_version"),
    run,
    trains="strong",
)
