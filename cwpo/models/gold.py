"""Gold rewards: what judges the arms and is never trained on by them. Each adapter maps texts to one score each."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from cwpo.data.batching import encode
from cwpo.errors import InputError
from cwpo.models.annotator import load_annotator, score_responses
from cwpo.models.policy import load_tokenizer, load_weights, read_config, read_tokenizer


class Gold(Protocol):
    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One float64 per prompt and response; higher is better."""


@runtime_checkable
class Comparison(Protocol):
    counts: Counter[str]  # what happened on the way: texts cut, questions without a usable answer

    def preferences(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """P(first is better than second) in [0, 1], float64, (N,); NaN where it could not be told."""


def both_rewards(
    gold: Gold | Comparison, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """What gold says of two responses to each prompt, each (N,): their rewards, or how likely each is the better one."""
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

    def __init__(self, folder: Path, *, batch_size: int, device: str) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.model = load_annotator(folder, pad_id=self.tokenizer.pad_token_id, device=device)
        self.batch_size = batch_size

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        rows = encode(self.tokenizer, prompts, responses)
        return (
            score_responses(self.model, rows, self.tokenizer.pad_token_id, self.batch_size).double().numpy()
        )


class HuggingFace:
    """A sequence-classification reward model with one label, read as its own forward pass returns it.

    The input is the prompt followed by the response, as one text where the model is causal, as a pair of texts where
    its tokenizer separates the two (encoders such as DeBERTa).
    """

    def __init__(self, path: str, revision: str | None, *, batch_size: int, device: str) -> None:
        problem = gold_problem(path, revision)
        if problem:
            raise InputError(problem)
        self.tokenizer = load_tokenizer_for_rewards(path, revision)
        self.model: Any = load_weights(
            AutoModelForSequenceClassification,
            path,
            revision,
            pad_token_id=self.tokenizer.pad_token_id,
            dtype=torch.float32 if device == "cpu" else "auto",
        )
        self.model.to(device).eval()
        self.batch_size, self.device = batch_size, device

    @torch.no_grad()
    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        scores = []
        for first in range(0, len(prompts), self.batch_size):
            rows = slice(first, first + self.batch_size)
            if self.tokenizer.sep_token_id is not None:
                texts: tuple[Any, ...] = (list(prompts[rows]), list(responses[rows]))
            else:
                texts = ([p + r for p, r in zip(prompts[rows], responses[rows], strict=True)],)
            inputs = self.tokenizer(*texts, return_tensors="pt", padding=True).to(self.device)
            scores.append(self.model(**inputs).logits.squeeze(-1).double().cpu().numpy())
        return np.concatenate(scores)


def load_tokenizer_for_rewards(path: str, revision: str | None) -> Any:
    """As load_tokenizer, for models that may have no EOS."""
    tokenizer = read_tokenizer(path, revision)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def gold_problem(
    path: str, revision: str | None, key: str = "gold.path", seq2seq: bool = False
) -> str | None:
    """Why the model at `path`, the value of `key`, cannot serve as reward, or None; reads its config only.

    seq2seq: it answers a question in words, and has no scores.
    """
    config = read_config(path, revision, key)
    if seq2seq:
        return None if config.is_encoder_decoder else f"{key}={path} is no encoder-decoder model such as T5"
    labels = config.num_labels
    if labels != 1:
        return f"{key}={path} returns {labels} scores; a reward model has num_labels=1"
    return None


def load_gold(config: Any, trained: Path | None, device: str) -> Gold | Comparison:
    """The adapter of a `conf/gold` choice; `trained` is the folder of the trained gold model."""
    if config.name == "oracle":
        return Oracle()
    if config.name == "judge":
        return Judge(config.temperature)
    if config.name == "trained":
        if trained is None:
            raise ValueError("gold=trained needs the folder of its model")
        return Trained(trained, batch_size=config.batch_size, device=device)
    if config.name == "openai":
        from cwpo.models.judge import ApiJudge

        return ApiJudge(config)
    return _adapters()[config.name](config.path, config.revision, batch_size=config.batch_size, device=device)


def _adapters() -> dict[str, Any]:
    from cwpo.models.reward_models import ChatReward, QuestionAnswer, SteamSHP

    return {
        "huggingface": HuggingFace,
        "skywork": ChatReward,
        "trl_qwen": ChatReward,
        "openassistant": QuestionAnswer,
        "steamshp": SteamSHP,
    }
