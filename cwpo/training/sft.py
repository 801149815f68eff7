"""Supervised fine-tuning on prompt + chosen response; the loss is a mean over response tokens of the global batch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwpo.data.batching import IGNORED, alone, within_budget
from cwpo.models.heads import LOGITS, Head
from cwpo.models.lengths import exact_parts
from cwpo.models.limits import vocabulary
from cwpo.models.logprobs import in_lines, lean_losses, packed_losses, response_logits
from cwpo.models.mending import drops_attention
from cwpo.models.packed import exact_layout
from cwpo.training.base import GlobalMeanTrainer


class SFTTrainer(GlobalMeanTrainer):
    """Trains on batches of SequenceCollator. row_losses gives a loss per response token; training minimises their mean.

    With a token budget, sequences are packed without padding. If they are packed, or if a batch may have more than
    LOGITS logits, the LM head runs on response tokens only, in chunks. Neither is done if it would change log-probs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head: Head | None = None
        rows = self.train_dataset
        most = len(max((row["ids"] for row in rows), key=len)) * self.args.per_device_train_batch_size
        if self.budget is not None:
            most = max(most if self.budget.measured else 0, self.budget.tokens)
        many = most * (vocabulary(self.model.config) or 0) > LOGITS
        if self.is_wrapped or not (many or self.budget):
            return
        layout = exact_layout(self.model, list(map(alone, rows)), 0)
        packs = self.budget is not None and layout.packed
        self.head = layout.head if many or packs else None
        if packs:
            with self.accelerator.autocast():
                lines = in_lines(self.model) and not drops_attention(self.model.config)  # their kernel knows no dropout
                packed = replace(self.data_collator.collator, packed=True, lines=lines)
            self.data_collator = within_budget(packed, self.budget)

    def count_rows(self, inputs: Mapping[str, Tensor]) -> Tensor | int:
        return len(inputs["target"]) if "packed_ids" in inputs else (inputs["labels"][:, 1:] != IGNORED).sum()

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if "packed_ids" in inputs:
            return packed_losses(model, inputs, self.head)
        parts = exact_parts(model, inputs["attention_mask"], inputs["input_ids"], inputs["labels"])
        return torch.cat([self._token_losses(model, ids, mask, labels) for _, mask, ids, labels in parts])

    def _token_losses(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        if self.head is not None:
            return lean_losses(model, input_ids, attention_mask, labels, self.head)[0]
        targets, logits = response_logits(model, input_ids, attention_mask, labels)
        kept = targets != IGNORED
        return cross_entropy(logits[kept].float(), targets[kept], reduction="none")
