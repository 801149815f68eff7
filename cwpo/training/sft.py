"""Supervised fine-tuning on prompt + chosen response; the loss is a mean over response tokens of the global batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwpo.data.batching import IGNORED
from cwpo.models.heads import LOGITS, Head
from cwpo.models.lengths import exact_parts
from cwpo.models.limits import vocabulary
from cwpo.models.logprobs import lean_losses, response_logits
from cwpo.models.packed import exact_layout
from cwpo.training.base import GlobalMeanTrainer


class SFTTrainer(GlobalMeanTrainer):
    """Trains on batches of SequenceCollator. The mean is over response tokens: each is a row of GlobalMeanTrainer.

    If a batch may have more than LOGITS logits, the head runs on response tokens only, in chunks, if that is exact.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head: Head | None = None
        rows = self.train_dataset
        most = len(max((row["ids"] for row in rows), key=len)) * self.args.per_device_train_batch_size
        if self.budget is not None:
            most = max(most if self.budget.measured else 0, self.budget.tokens)
        if most * (vocabulary(self.model.config) or 0) > LOGITS and not self.is_wrapped:
            sides = (
                {f"{side}_{what}": row[what] for side in ("chosen", "rejected") for what in ("ids", "start")}
                for row in rows
            )
            self.head = exact_layout(self.model, list(sides), 0).head

    def count_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return (inputs["labels"][:, 1:] != IGNORED).sum()

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        parts = exact_parts(model, inputs["attention_mask"], inputs["input_ids"], inputs["labels"])
        return torch.cat([self._token_losses(model, ids, mask, labels) for _, mask, ids, labels in parts])

    def _token_losses(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        if self.head is not None:
            return lean_losses(model, input_ids, attention_mask, labels, self.head)[0]
        targets, logits = response_logits(model, input_ids, attention_mask, labels)
        kept = targets != IGNORED
        return cross_entropy(logits[kept].float(), targets[kept], reduction="none")
