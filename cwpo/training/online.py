"""Preference optimisation on pairs sampled from the policy itself while it learns (appendix J.5)."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainingArguments

from cwpo.data.batching import encode_pairs, named, within_budget
from cwpo.errors import InputError
from cwpo.finite import listed
from cwpo.models.generation import prompt_seed, sample_responses
from cwpo.models.heads import without_adapters
from cwpo.models.logprobs import score_sequences
from cwpo.models.packed import Layout
from cwpo.training.pairs import Reference
from cwpo.training.preference import PreferenceLoss

Scores = Callable[[Sequence[str], Sequence[str]], np.ndarray]
Weights = Callable[[np.ndarray], np.ndarray]


class OnlineTrainer(PreferenceLoss):
    """Minimises mean(weight * loss) over pairs of responses that the policy gives during training.

    Before every `batches_per_round` optimiser steps it samples two responses to each prompt of these steps. The one
    with the higher reward is chosen. Pairs with identical texts, with equal rewards or with a text too long for a model
    are dropped; the mean is over the rest of the batch. Every sampled pair is appended to the list `pairs`, in order.

    train_dataset: rows with prompt_id and prompt; one pass over them is an epoch. model: a causal LM with dropout off.
    The reference is the model as handed in. sampling: temperature, max_new_tokens, batch_size and top_k of
    sample_responses. context: the model's context length in tokens, None for no limit.
    reward(prompts, responses) returns scores (N,), NaN for a text that is too long. weights(gaps) returns pair weights
    > 0 for reward gaps > 0, both (N,). Other arguments and logs are as in PreferenceTrainer. It also logs, of the last
    round: online/reward (mean), online/gap (mean over kept pairs), online/length (mean number of tokens) and
    online/dropped (share). One process only.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        train_dataset: Sequence[Mapping[str, str]],
        *,
        pairs: list[dict[str, Any]],
        context: int | None,
        reward: Scores,
        weights: Weights,
        sampling: Mapping[str, Any],
        batches_per_round: int,
        processing_class: PreTrainedTokenizerBase,
        **kwargs: Any,
    ) -> None:
        if args.world_size > 1:
            raise InputError(
                f"online alignment runs in one process, not in {args.world_size}: start it without torchrun"
            )
        self.pairs, self.context, self.reward, self.weights = pairs, context, reward, weights
        self.sampling, self.batches_per_round = sampling, batches_per_round
        self._round_number = 0
        self._ready: list[list[dict[str, Tensor]]] = []
        self._latest: dict[str, float] = {}
        args.remove_unused_columns = False  # the model's forward pass does not take the columns of the prompts
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=list,
            processing_class=processing_class,
            **kwargs,
        )
        self.reference = Reference(self.model)

    def count_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return (inputs["weight"] > 0).sum()

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        return super()._get_num_items_in_batch(batch_samples, device).clamp(min=1)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """Returns one step's micro-batches and their number of kept pairs (1 if none). Samples a round if needed."""
        if not self._ready:
            step = self.args.gradient_accumulation_steps
            prompts = list(itertools.islice(epoch_iterator, self.batches_per_round * step))
            batches = self._round(prompts)
            self._ready = [batches[i : i + step] for i in range(0, len(batches), step)]
        batch = self._ready.pop(0)
        return batch, self._get_num_items_in_batch(batch, device)

    @property
    def between_rounds(self) -> bool:
        return not self._ready

    def window(self) -> dict[str, Any]:
        return super().window() | {"round": self._round_number, "pairs": self.pairs}

    def restore_window(self, values: Mapping[str, Any]) -> None:
        super().restore_window(values)
        self._round_number = values["round"]
        self.pairs[:] = values["pairs"]
        self._latest = _summary([pair for pair in self.pairs if pair["round"] == self._round_number - 1])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs | self._latest if "loss" in logs else logs, start_time)

    def _round(self, micro_batches: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, Tensor]]:
        """Samples, scores and collates the pairs of one round; returns a batch for each micro-batch of prompts."""
        number, self._round_number = self._round_number, self._round_number + 1
        prompts = [row for batch in micro_batches for row in batch]
        pairs = self._sample(prompts, number)
        rows = iter(self._rows(pairs))
        batches = [
            [row for row in itertools.islice(rows, len(batch)) if row is not None] or [self._nothing(batch[-1])]
            for batch in micro_batches
        ]
        flat = [row for batch in batches for row in batch]
        pad_id = self.processing_class.pad_token_id
        collate = within_budget(self.collator(flat, pad_id), self.budget)
        exact = Layout(by_length=self.layout.by_length).plain
        for side in ("chosen", "rejected"):
            sequences = [(row[f"{side}_ids"], row[f"{side}_start"]) for row in flat]
            with self.reference.in_place(), self.accelerator.autocast():  # in the policy's precision
                scores = score_sequences(self.model, sequences, pad_id, compute=exact).tolist()
            for row, score in zip(flat, scores, strict=True):
                row[f"{side}_logp"] = score
        self.pairs += pairs
        self._latest = _summary(pairs)
        return [collate(batch) for batch in batches]

    def _sample(self, prompts: Sequence[Mapping[str, str]], number: int) -> list[dict[str, Any]]:
        """Returns a pair per prompt of round `number`: two responses with rewards, and weight 0 until _rows sets it."""
        texts = [row["prompt"] for row in prompts]
        ids = [row["prompt_id"] for row in prompts]
        seeds = [prompt_seed(self.args.seed, f"online/{number}/{side}", id) for side in "ab" for id in ids]
        with _generation_settings_kept(self.model):
            said = sample_responses(self.model, self.processing_class, texts * 2, seeds, names=ids * 2, **self.sampling)
        try:
            scores = self.reward(texts * 2, [one["response"] for one in said])
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, in sampling round {number}; its prompts: {listed(ids)}") from error
        halves = (
            part[i : i + len(prompts)]
            for part in (said, np.asarray(scores, dtype=float).tolist())
            for i in (0, len(prompts))
        )
        return [
            {
                "round": number,
                "prompt_id": row["prompt_id"],
                "prompt": row["prompt"],
                "response_a": a["response"],
                "response_b": b["response"],
                "score_a": score_a,
                "score_b": score_b,
                "margin": abs(score_a - score_b),
                "weight": 0.0,
                "n_tokens_a": a["n_tokens"],
                "n_tokens_b": b["n_tokens"],
                "truncated_a": bool(a["truncated"]),
                "truncated_b": bool(b["truncated"]),
                "dropped": "",
            }
            for row, a, b, score_a, score_b in zip(prompts, *halves, strict=True)
        ]

    def _rows(self, pairs: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Returns a training row for each pair, None if it is dropped. Writes weights and drop reasons into `pairs`."""
        sides = ["ab" if pair["score_a"] > pair["score_b"] else "ba" for pair in pairs]
        chosen, rejected = (
            [pair[f"response_{side[i]}"] for pair, side in zip(pairs, sides, strict=True)] for i in (0, 1)
        )
        rows = encode_pairs(self.processing_class, [pair["prompt"] for pair in pairs], chosen, rejected)
        for pair, row, order in zip(pairs, rows, sides, strict=True):
            for name, side in zip(("chosen_ids", "rejected_ids"), order, strict=True):
                if pair[f"truncated_{side}"]:
                    row[name] = row[name][:-1]  # the policy did not end this response
            row["pair_id"] = pair["prompt_id"]
            pair["dropped"] = self._reason(pair, row)
        kept = [index for index, pair in enumerate(pairs) if not pair["dropped"]]
        weights = self.weights(np.array([pairs[index]["margin"] for index in kept]))
        for index, weight in zip(kept, weights, strict=True):
            pairs[index]["weight"] = rows[index]["weight"] = float(weight)
        return [None if pair["dropped"] else row for pair, row in zip(pairs, rows, strict=True)]

    def _reason(self, pair: Mapping[str, Any], row: Mapping[str, Any]) -> str:
        if pair["response_a"] == pair["response_b"]:
            return "identical"
        longest = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        if np.isnan(pair["margin"]) or (self.context is not None and longest > self.context):
            return "too_long"
        return "" if pair["margin"] > 0 else "tied"

    def _record(self, logps: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor) -> None:
        kept = weights > 0  # leaves out rows of _nothing
        super()._record(logps[kept.repeat(2)], chosen[kept], rejected[kept], weights[kept])

    def _nothing(self, prompt: Mapping[str, str]) -> dict[str, Any]:
        """Returns a row of weight 0, for a micro-batch whose pairs were all dropped: its step must still take place."""
        rows = encode_pairs(self.processing_class, [prompt["prompt"]], [""], [""], weight=[0.0])
        return named(rows, [prompt["prompt_id"]])[0]


@contextmanager
def _generation_settings_kept(model: Any) -> Iterator[None]:
    """Restores the model's generation settings on exit, since sampling replaces them."""
    owners = (model, without_adapters(model))
    kept = [owner.generation_config for owner in owners]
    try:
        yield
    finally:
        for owner, settings in zip(owners, kept, strict=True):
            owner.generation_config = settings


def _summary(pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the values to log for a round: {"online/reward": mean, ...}. Leaves out a mean if there are no values."""
    scores = [score for pair in pairs for score in (pair["score_a"], pair["score_b"])]
    gaps = [pair["margin"] for pair in pairs if not pair["dropped"]]
    tokens = [pair[f"n_tokens_{side}"] for pair in pairs for side in "ab"]
    values = {
        "online/reward": float(np.nanmean(scores)) if not np.isnan(scores).all() else None,
        "online/gap": float(np.mean(gaps)) if gaps else None,
        "online/length": float(np.mean(tokens)),
        "online/dropped": 1 - len(gaps) / len(pairs),
    }
    return {name: value for name, value in values.items() if value is not None}


def counts(pairs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Counts pairs: `sampled` (all), `n_train` (trained on), dropped_<reason>; also counts `truncated_responses`."""
    dropped = Counter(pair["dropped"] for pair in pairs)
    return {
        "sampled": len(pairs),
        "n_train": dropped.pop("", 0),
        **{f"dropped_{reason}": dropped.get(reason, 0) for reason in ("identical", "tied", "too_long")},
        "truncated_responses": sum(pair[f"truncated_{side}"] for pair in pairs for side in "ab"),
    }
