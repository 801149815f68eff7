"""PairRM training: binary cross-entropy on both orders of a pair (Eq. 20)."""

from collections.abc import Mapping

from torch import Tensor, nn

from cwpo.models.annotator import response_scores
from cwpo.objectives import bradley_terry
from cwpo.training.base import GlobalMeanTrainer


class PairRMTrainer(GlobalMeanTrainer):
    """Rows come from PairCollator over encode_both_orders: the better response first in the first half of the batch.

    Loss of a pair: [-log sigmoid f(x, y+, y-) - log(1 - sigmoid f(x, y-, y+))] / 2, a mean over the two orders.
    """

    def count_rows(self, inputs: Mapping[str, Tensor]) -> int:
        return len(inputs["input_ids"]) // 2

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        right, swapped = response_scores(model, inputs["input_ids"], inputs["attention_mask"]).chunk(2)
        return (bradley_terry(right) + bradley_terry(-swapped)) / 2
