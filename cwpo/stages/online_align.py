"""Aligns the strong model online, on its own responses, compared by a reward (appendix J.5, Tables 21 and 22)."""

from functools import partial
from typing import Any

import pandas as pd

from cwpo.errors import InputError
from cwpo.stages.align import objective_of
from cwpo.stages.base import Stage, Work
from cwpo.stages.generate import with_room
from cwpo.weighting import pair_weights


def run(work: Work) -> dict[str, Any]:
    from cwpo.models.policy import context_length, load_tokenizer
    from cwpo.training.fit import Start, fit_preference
    from cwpo.training.online import OnlineTrainer, counts

    config, folder = work.config, work.parents["sft"] / "model"
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    selected, most_new = work.table("select", "selected.parquet"), config.generation.max_new_tokens
    prompts, without_room = with_room(selected, "training", tokenizer, most_new, context)
    pairs: list[dict[str, Any]] = []
    fitted = fit_preference(
        work.site(),
        prompts.to_dict("records"),
        start=Start(folder),
        training=config.alignment,
        lora=config.lora,
        seed=config.seed,
        kind=OnlineTrainer,
        pairs=pairs,
        context=context,
        reward=_reward(work),
        weights=lambda gaps: pair_weights(config.weighting.name, gaps, config.weighting.scale),
        sampling={name: config.generation[name] for name in ("temperature", "max_new_tokens", "top_k", "batch_size")},
        batches_per_round=config.online.batches_per_round,
        **objective_of(config.objective),
    )
    counted = counts(pairs)
    if not counted["n_train"]:
        raise InputError(
            f"nothing to learn from: all {counted['sampled']} sampled pairs were dropped ({counted}); raise "
            "generation.temperature, or use another online.reward"
        )
    pd.DataFrame(pairs).to_parquet(work.out / "responses.parquet", index=False)
    rounds, seconds = pairs[-1]["round"] + 1, round(fitted.seconds, 3)
    return {**counted, "rounds": rounds, "prompts_without_room": without_room, "train_seconds": seconds}


def _reward(work: Work) -> Any:
    """Loads the reward model.

    It is the annotator or gold model of the parent stage `reward` if there is one, else online.reward_model.
    """
    from cwpo.models.gold import Trained
    from cwpo.models.policy import context_length, readable
    from cwpo.models.reward_models import load_reward, rewards_within

    online = work.config.online
    settings = {"batch_size": online.batch_size, "device": work.device}
    if "reward" in work.parents:
        folder = work.parents["reward"] / "model"
        return partial(rewards_within, context_length(folder), Trained(folder, **settings))
    named = (online.reward_model, online.reward_revision)
    model = load_reward(*named, chat=online.reward_chat, **settings)
    return partial(rewards_within, readable(model.tokenizer, *named), model)


READS = ("alignment", "objective", "lora", "weighting", "generation", "online", "seed", "text_version")
ONLINE_ALIGN = Stage("online_align", 3, READS, run, trains="strong")
