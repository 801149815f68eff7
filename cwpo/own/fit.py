"""Trains annotators on users' labelled pairs; scores pairs with them or any sequence-classification reward model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cwpo.atomic import write_text
from cwpo.data.encoding import Text, encode, encode_pairs
from cwpo.data.labels import chosen_rejected
from cwpo.data.own_texts import as_conversations
from cwpo.finite import check_finite
from cwpo.models.annotator import load_annotator, score_responses
from cwpo.models.pair_scores import score_gaps
from cwpo.models.pairrm import score_both_orders
from cwpo.models.policy import load_tokenizer
from cwpo.models.reward_models import load_reward
from cwpo.own.folder import NOTE, checkpoint_of, read_note
from cwpo.own.reading import wished
from cwpo.training.checkpoints import Schedule
from cwpo.training.fit import Comparisons, Site, Start, fit_annotator

SEEN = "trained_on.txt"  # beside the weights: digests of the prompts that the annotator was trained on
CURVE = "training.json"  # beside the weights: the losses of the training
BATCH = 64
CHECKPOINTS = Schedule(minutes=10)


@contextmanager
def training_in(folder: Path, device: str, token_budget: int | None, **told: Any) -> Iterator[Site]:
    """Yields the Site for one training. If the with block succeeds, what it wrote to site.out becomes `folder`.

    A stopped training continues from its checkpoints, which lie beside `folder`. `told`: the Site's fields `log` and
    `progress`.
    """
    partial, checkpoints = (folder.with_name(f"{folder.name}.{part}") for part in ("partial", "checkpoints"))
    shutil.rmtree(partial, ignore_errors=True)
    yield Site(partial, device, token_budget, checkpoints, CHECKPOINTS, **told)
    os.replace(partial, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)


class Annotates(Protocol):
    def gaps(self, pairs: pd.DataFrame) -> np.ndarray:
        """Returns score(`a`) - score(`b`) in logits, (members, pairs). FloatingPointError if one is NaN or infinite."""


@dataclass(frozen=True)
class Annotator:
    """An annotator trained by cwpo: one model, or several as the members of an ensemble. `kind`: bt or pairrm."""

    kind: str
    models: Sequence[Any]
    tokenizer: Any
    token_budget: int | None = None

    def gaps(self, pairs: pd.DataFrame) -> np.ndarray:
        prompts, first, second = as_conversations(pairs, "response_a", "response_b")
        if self.kind == "pairrm":
            halves = [score_both_orders(model, self.tokenizer, prompts, first, second) for model in self.models]
            return _finite(np.stack([(right - swapped).double().numpy() for right, swapped in halves]), pairs)
        rows, pad_id = encode_pairs(self.tokenizer, prompts, first, second), self.tokenizer.pad_token_id
        gaps = [score_gaps(model, rows, pad_id, BATCH, self.token_budget).numpy() for model in self.models]
        return _finite(np.stack(gaps), pairs)

    def rewards(self, prompts: Sequence[Text], responses: Sequence[Text]) -> np.ndarray:
        """Returns each response's score, (N,), averaged over the ensemble. Not for PairRM, which scores only pairs."""
        rows, pad_id = encode(self.tokenizer, prompts, responses), self.tokenizer.pad_token_id
        scores = [score_responses(model, rows, pad_id, BATCH, self.token_budget) for model in self.models]
        return np.mean([score.double().numpy() for score in scores], axis=0)

    def lengths(self, prompts: Sequence[Text], responses: Sequence[Text]) -> list[int]:
        """Returns for each prompt with its response how many tokens the models read, special tokens included."""
        return [len(ids) for ids, _ in encode(self.tokenizer, prompts, responses)]


class RewardModel:
    """A sequence-classification model with one score, from a folder or hub id, used as an annotator."""

    def __init__(self, path: str, revision: str | None, device: str, chat: bool | None = None) -> None:
        self.model = load_reward(path, revision, batch_size=BATCH, device=device, chat=chat)

    def gaps(self, pairs: pd.DataFrame) -> np.ndarray:
        prompts, *sides = as_conversations(pairs, "response_a", "response_b")
        a, b = (self.model.rewards(prompts, responses) for responses in sides)
        return _finite((a - b)[None], pairs)


def _finite(gaps: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Returns `gaps`, of shape (members, pairs). Raises FloatingPointError, which names pairs, if any is not finite."""
    worst = np.abs(gaps).max(axis=0, initial=0.0)  # NaN if any member's gap is NaN
    check_finite(worst, list(map(str, pairs.get("pair_id", range(len(pairs))))), "the annotator's scores")
    return gaps


def fit(
    pairs: pd.DataFrame,
    cfg: Any,
    folder: Path,
    *,
    seed: int,
    device: str,
    held_out: pd.DataFrame | None = None,
    **told: Any,
) -> None:
    """Trains one annotator on labelled pairs; writes model, tokenizer and the losses (file CURVE) to `folder`.

    `folder` appears when it is complete. `cfg` needs model, revision, chat, annotator, ties and token_budget. With
    `held_out` pairs, training ends early when their loss no longer falls. `told`: as in training_in.
    """
    with training_in(folder, device, cfg.token_budget, **told) as site:
        fitted = fit_annotator(
            site,
            _comparisons(pairs, cfg),
            start=Start(cfg.model, cfg.revision, wished(cfg.chat)),
            training=cfg.annotator.training,
            head_std=cfg.annotator.head_std,
            seed=seed,
            joint=cfg.annotator.kind == "pairrm",
            held_out=None if held_out is None else _comparisons(held_out, cfg),
        )
        curve = {"loss": [row["loss"] for row in fitted.curve], "held_out_loss": fitted.held_out}
        (site.out / CURVE).write_text(json.dumps(curve) + "\n", encoding="utf-8")


def _comparisons(pairs: pd.DataFrame, cfg: Any) -> Comparisons:
    ordered = chosen_rejected(pairs, pairs["target"] >= 0.5)
    prompts, chosen, rejected = as_conversations(ordered, "chosen", "rejected")
    soft = np.maximum(pairs["target"], 1 - pairs["target"]).tolist() if cfg.ties == "soft" else None
    return Comparisons(pairs["pair_id"].tolist(), prompts, chosen, rejected, soft)


def fit_members(pairs: pd.DataFrame, cfg: Any, folder: Path, *, device: str, **how: Any) -> Annotator:
    """Trains cfg.annotator.members annotators on the same pairs, saves them in `folder`, returns them as one Annotator.

    Each has its own seed. A member whose folder exists is not trained again. `how`: the arguments `held_out` and
    `progress` of `fit`.
    """
    members = cfg.annotator.members
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / NOTE).is_file():
        if members > 1:
            folder.mkdir(exist_ok=True)
        for member, path in enumerate(_paths(folder, members)):
            if not path.is_dir():
                fit(pairs, cfg, path, seed=cfg.seed + 1000 * member, device=device, **how)
        digests = sorted({prompt_digest(prompt) for prompt in pairs["prompt"]})
        write_text(folder / SEEN, "".join(f"{digest}\n" for digest in digests))
        write_text(
            folder / NOTE, json.dumps({"kind": cfg.annotator.kind, "members": members}) + "\n"
        )  # last: marks `folder` as complete
    return load(folder, device=device, token_budget=cfg.token_budget)


def read_curve(folder: Path) -> dict[str, list[float]]:
    """Returns the losses of the training (in an ensemble, of member 0): loss by logged step, held_out_loss by epoch."""
    return json.loads((Path(checkpoint_of(str(folder))) / CURVE).read_text(encoding="utf-8"))


def load(folder: Path, *, device: str, token_budget: int | None = None, chat: bool | None = None) -> Annotator:
    """Returns the annotator that fit_members wrote to `folder`. chat=None: it reads prompts as in its training."""
    note = read_note(folder)
    folders = _paths(folder, note["members"])
    tokenizer = load_tokenizer(folders[0], chat=chat)
    models = [load_annotator(path, pad_id=tokenizer.pad_token_id, device=device) for path in folders]
    return Annotator(note["kind"], models, tokenizer, token_budget)


def trained_on(folder: Path, prompts: Iterable[str]) -> np.ndarray:
    """Returns whether the annotator in `folder` was trained on each prompt, by its list SEEN; without it, all False."""
    if not (folder / SEEN).is_file():
        return np.zeros(len(list(prompts)), dtype=bool)
    seen = set((folder / SEEN).read_text(encoding="utf-8").split())
    return np.array([prompt_digest(prompt) in seen for prompt in prompts], dtype=bool)


def prompt_digest(prompt: str) -> str:
    """Returns the first 16 hex digits of the prompt's SHA-256."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _paths(folder: Path, members: int) -> list[Path]:
    """Returns the folder of each member's model. A single model lies in `folder` itself, as an ordinary checkpoint."""
    return [folder] if members == 1 else [folder / f"member{member}" for member in range(members)]
