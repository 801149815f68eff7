"""The reward of online alignment: a Bradley-Terry model trained here, or any reward model."""

from collections.abc import Sequence

import numpy as np

from cwpo.models.gold import Trained
from cwpo.models.reward_models import ChatReward, HuggingFace


class Reward:
    """Scores of responses under `model`, whose context holds `context` tokens (None: any number)."""

    def __init__(self, model: Trained | HuggingFace | ChatReward, context: int | None) -> None:
        self.model, self.context = model, context

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One float64 per prompt and response, NaN where the two are longer than the context.

        Raises FloatingPointError for other scores that are NaN or infinite.
        """
        lengths = np.array(self.model.lengths(prompts, responses), dtype=np.int64)
        kept = np.flatnonzero(lengths <= (self.context or np.inf)).tolist()
        scores = np.full(len(lengths), np.nan)
        if kept:
            scores[kept] = self.model.rewards([prompts[i] for i in kept], [responses[i] for i in kept])
        broken = int((~np.isfinite(scores[kept])).sum())
        if broken:
            raise FloatingPointError(f"{broken} of {len(lengths)} rewards are NaN or infinite")
        return scores
