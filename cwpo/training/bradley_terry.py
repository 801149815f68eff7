"""Training of a scalar head over human-labelled pairs: Bradley-Terry (Eq. 4, 5) and PairRM (Eq. 20)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from cwpo.models.annotator import response_scores
from cwpo.objectives import bradley_terry
from cwpo.training.base import GlobalMeanTrainer


class BradleyTerryTrainer(GlobalMeanTrainer):
    """Rows come from PairCollator: chosen sequences first, then rejected. Loss: -log sigmoid(score gap), a mean over pairs.

    With a float `target` for each row, the share of people who prefer its first response, the loss is their cross-entropy.
    `lean` as in response_scores.
    """

    def __init__(self, *args: Any, lean: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lean = lean

    def count_rows(self, inputs: Mapping[str, Tensor]) -> int:
        return len(inputs["input_ids"]) // 2

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        scores = response_scores(model, inputs["input_ids"], inputs["attention_mask"], lean=self.lean)
        chosen, rejected = scores.chunk(2)
        gap = chosen - rejected
        if "target" not in inputs:
            return bradley_terry(gap)
        return bradley_terry(gap) + (1 - inputs["target"]) * gap


class PairRMTrainer(BradleyTerryTrainer):
    """Rows come from PairCollator over encode_both_orders: the better response first in the first half of the batch.

    Loss of a pair: [-log sigmoid f(x, y+, y-) - log(1 - sigmoid f(x, y-, y+))] / 2, a mean over the two orders.
    """

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        right, swapped = response_scores(model, inputs["input_ids"], inputs["attention_mask"]).chunk(2)
        return (bradley_terry(right) + bradley_terry(-swapped)) / 2
