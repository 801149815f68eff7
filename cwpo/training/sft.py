"""Supervised fine-tuning on prompt + chosen response; the loss is a mean over the response tokens of the global batch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwpo.data.batching import IGNORED
from cwpo.models.lengths import exact_parts
from cwpo.models.logprobs import response_logits
from cwpo.training.base import GlobalMeanTrainer


class SFTTrainer(GlobalMeanTrainer):
    """Rows come from SequenceCollator. What is averaged over here are tokens, so a row is one response token."""

    def count_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return (inputs["labels"][:, 1:] != IGNORED).sum()

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        parts = exact_parts(model, inputs["attention_mask"], inputs["input_ids"], inputs["labels"])
        return torch.cat([_token_losses(model, ids, mask, labels) for _, mask, ids, labels in parts])


def _token_losses(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    targets, logits = response_logits(model, input_ids, attention_mask, labels)
    kept = targets != IGNORED
    return cross_entropy(logits[kept].float(), targets[kept], reduction="none")
