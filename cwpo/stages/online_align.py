"""Online preference optimisation: the policy's own responses, compared by a reward (appendix J.5, Tables 21 and 22)."""

from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.stages.align import objective_of
from cwpo.stages.base import Stage, Work
from cwpo.stages.generate import with_room
from cwpo.weighting import pair_weights


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.policy import context_length, load_policy, load_tokenizer
    from cwpo.training.fit import adapted
    from cwpo.training.online import counts
    from cwpo.training.saving import merged

    folder = work.parents["sft"] / "model"
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    pairs, most_new = work.table("select", "selected.parquet"), work.config.generation.max_new_tokens
    prompts, without_room = with_room(pairs, "training", tokenizer, most_new, context)
    policy = load_policy(folder, device=work.device)
    settings = policy.generation_config
    model = adapted(policy, work.config.lora, work.config.seed)
    trainer = _trainer(work, model, tokenizer, prompts, context)
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
        "prompts_without_room": without_room,
        "train_seconds": round(result.metrics["train_runtime"], 3),
    }


def _trainer(work: Work, model: Any, tokenizer: Any, prompts: pd.DataFrame, context: int | None) -> Any:
    from cwpo.models.policy import load_policy
    from cwpo.training.base import Curve, training_arguments
    from cwpo.training.online import OnlineTrainer, Sampling

    config = work.config
    settings = {"rows": len(prompts), "seed": config.seed, "device": work.device}
    arguments = training_arguments(config.alignment, work.out, **settings)
    names = ("temperature", "top_k", "max_new_tokens", "batch_size")
    drawn = {name: config.generation[name] for name in names}
    reference = load_policy(work.parents["sft"] / "model", device=work.device)
    return OnlineTrainer(
        model,
        arguments,
        prompts.to_dict("records"),
        reference=reference.requires_grad_(False),
        context=context,
        reward=_reward(work),
        weights=lambda gaps: pair_weights(config.weighting.name, gaps, config.weighting.scale),
        sampling=Sampling(**drawn, batches_per_round=config.online.batches_per_round, seed=config.seed),
        processing_class=tokenizer,
        **objective_of(config.objective),
        callbacks=[Curve(work.tracker.log, work.progress)],
    )


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


READS = ("alignment", "objective", "lora", "weighting", "generation", "online", "seed", "text_version")
ONLINE_ALIGN = Stage("online_align", 2, READS, run, trains="strong")
