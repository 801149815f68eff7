"""The reward of online alignment: a Bradley-Terry model trained here, or any reward model."""

from collections.abc import Sequence

import numpy as np

from cwpo.data.encoding import encode
from cwpo.models.gold import Trained
from cwpo.models.reward_models import ChatReward, HuggingFace, reward_inputs


class Reward:
    """Scores of responses under `model`, whose context holds `context` tokens (None: any number)."""

    def __init__(self, model: Trained | HuggingFace | ChatReward, context: int | None) -> None:
        self.model, self.context = model, context

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One float64 per prompt and response, NaN where the two are longer than the context.

        Raises FloatingPointError for other scores that are NaN or infinite.
        """
        fits = np.array(
            [self.context is None or n <= self.context for n in self._lengths(prompts, responses)], bool
        )
        scores = np.full(len(fits), np.nan)
        if fits.any():
            kept = np.flatnonzero(fits).tolist()
            scores[kept] = self.model.rewards([prompts[i] for i in kept], [responses[i] for i in kept])
        broken = int((~np.isfinite(scores[fits])).sum())
        if broken:
            raise FloatingPointError(f"{broken} of {len(fits)} rewards are NaN or infinite")
        return scores

    def _lengths(self, prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
        tokenizer = self.model.tokenizer
        if isinstance(self.model, (HuggingFace, ChatReward)):
            read = reward_inputs(tokenizer, prompts, responses, self.model.chat)
            return [len(ids) for ids in read["input_ids"]]
        return [len(ids) for ids, _ in encode(tokenizer, prompts, responses)]
