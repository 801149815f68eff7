"""Gold rewards judge the arms; no arm trains on them. A gold model scores single responses or compares two of them."""

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
        """Returns the reward of each response to its prompt, float64, (N,); higher is better."""


@runtime_checkable
class Comparison(Protocol):
    counts: Counter[str]  # number of each event: a text was cut, a question got no usable answer, ...

    def preferences(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """Returns P(first is better than second) in [0, 1], float64, (N,); NaN for a pair that could not be judged."""


def both_rewards(
    gold: Gold | Comparison, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rewards of first and second responses, each (N,). A Comparison gives P(first is better) and 1 - P."""
    if isinstance(gold, Comparison):
        preferred = gold.preferences(prompts, first, second)
        return preferred, 1 - preferred
    return gold.rewards(prompts, first), gold.rewards(prompts, second)


class Oracle:
    """Gives the exact reward of the synthetic world."""

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        from cwpo.data.toy import gold_rewards

        return np.asarray(gold_rewards(prompts, responses), dtype=np.float64)


class Judge:
    """A noisy judge of the synthetic world: the exact reward plus independent noise for every prompt and response.

    Gumbel noise of scale `temperature` makes it prefer response `a` to `b` with probability
    sigmoid((reward(a) - reward(b)) / temperature). The noise depends on the texts alone: equal texts get equal noise.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return Oracle().rewards(prompts, responses) + self.temperature * np.array(
            [_gumbel(f"{prompt}\0{response}") for prompt, response in zip(prompts, responses, strict=True)]
        )


def _gumbel(text: str) -> float:
    """Returns a standard Gumbel draw that depends on `text` alone."""
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return -math.log(-math.log((bits + 0.5) / 2**64))


class Trained:
    """A Bradley-Terry model that cwpo trained and saved in `folder`; its rewards are logits."""

    def __init__(self, folder: Path, *, batch_size: int, device: str, token_budget: int | None = None) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.model = load_annotator(folder, pad_id=self.tokenizer.pad_token_id, device=device)
        self.batching = (batch_size, token_budget)

    def lengths(self, prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
        """Returns for each prompt and its response how many tokens the model reads."""
        return [len(ids) for ids, _ in encode(self.tokenizer, prompts, responses)]

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        rows, pad_id = encode(self.tokenizer, prompts, responses), self.tokenizer.pad_token_id
        return score_responses(self.model, rows, pad_id, *self.batching).double().numpy()


def load_gold(config: Any, trained: Path | None, device: str, token_budget: int | None = None) -> Gold | Comparison:
    """Loads the gold model of `config`, a choice of conf/gold. gold=trained loads the model in the folder
    `trained`, and raises ValueError if that is None.

    A batch of a local neural model has up to 2 x `token_budget` tokens or, if that is None, `config.batch_size` texts.
    """
    settings: dict[str, Any] = {"device": device, "token_budget": token_budget}
    if config.name in ("oracle", "judge"):
        return Oracle() if config.name == "oracle" else Judge(config.temperature)
    if config.name == "trained":
        if trained is None:
            raise ValueError("trained is None, but gold=trained needs the model's folder; pass train_gold's output")
        return Trained(trained, batch_size=config.batch_size, **settings)
    if config.name == "openai":
        from cwpo.models.judge import ApiJudge

        return ApiJudge(config)
    from cwpo.models.reward_models import ADAPTERS

    return ADAPTERS[config.name](config.path, config.revision, batch_size=config.batch_size, **settings)
