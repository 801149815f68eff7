"""Gold rewards judge the arms; no arm trains on them. Each adapter gives one score for each prompt and response."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cwpo.data.encoding import encode
from cwpo.models.annotator import load_annotator, score_responses
from cwpo.models.policy import load_tokenizer


class Gold(Protocol):
    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One float64 per prompt and response; higher is better."""


@runtime_checkable
class Comparison(Protocol):
    counts: Counter[str]  # texts that were cut, questions without a usable answer

    def preferences(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """P(first is better than second) in [0, 1], float64, (N,); NaN where it could not be told."""


def both_rewards(
    gold: Gold | Comparison, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Gold's rewards of two responses to each prompt, each (N,); of a judge that compares, how likely each is better."""
    if isinstance(gold, Comparison):
        preferred = gold.preferences(prompts, first, second)
        return preferred, 1 - preferred
    return gold.rewards(prompts, first), gold.rewards(prompts, second)


class Oracle:
    """The exact reward of the synthetic world."""

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        from cwpo.data.toy import gold_rewards

        return np.asarray(gold_rewards(prompts, responses), dtype=np.float64)


class Judge:
    """A reader of the synthetic world who compares: exact reward plus noise of its own for every prompt and response.

    Gumbel noise of scale `temperature` makes it prefer a to b with probability sigmoid(difference / temperature), as one
    draw that depends on the texts alone.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return Oracle().rewards(prompts, responses) + self.temperature * np.array(
            [_gumbel(f"{prompt}\0{response}") for prompt, response in zip(prompts, responses, strict=True)]
        )


def _gumbel(text: str) -> float:
    """A standard Gumbel draw that is a function of `text`."""
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return -math.log(-math.log((bits + 0.5) / 2**64))


class Trained:
    """The Bradley-Terry model in `folder`, trained on held-out human pairs."""

    def __init__(self, folder: Path, *, batch_size: int, device: str, token_budget: int | None = None) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.model = load_annotator(folder, pad_id=self.tokenizer.pad_token_id, device=device)
        self.batching = (batch_size, token_budget)

    def lengths(self, prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
        """Tokens that the model reads of each prompt and response."""
        return [len(ids) for ids, _ in encode(self.tokenizer, prompts, responses)]

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        rows, pad_id = encode(self.tokenizer, prompts, responses), self.tokenizer.pad_token_id
        return score_responses(self.model, rows, pad_id, *self.batching).double().numpy()


def load_gold(config: Any, trained: Path | None, device: str, token_budget: int | None = None) -> Gold | Comparison:
    """The adapter of a `conf/gold` choice; `trained` is the folder of the trained gold model.

    It reads SCORING times the token budget at a time, or without one `config.batch_size` sequences.
    """
    settings: dict[str, Any] = {"device": device, "token_budget": token_budget}
    if config.name in ("oracle", "judge"):
        return Oracle() if config.name == "oracle" else Judge(config.temperature)
    if config.name == "trained":
        if trained is None:
            raise ValueError("gold=trained needs the folder of its model")
        return Trained(trained, batch_size=config.batch_size, **settings)
    if config.name == "openai":
        from cwpo.models.judge import ApiJudge

        return ApiJudge(config)
    from cwpo.models.reward_models import ADAPTERS

    return ADAPTERS[config.name](config.path, config.revision, batch_size=config.batch_size, **settings)
