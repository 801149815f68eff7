"""Training of a scalar head over human-labelled pairs: Bradley-Terry (Eq. 4, 5) and PairRM (Eq. 20)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from cwpo.data.batching import within_budget
from cwpo.models.annotator import response_scores
from cwpo.models.pair_scores import pair_scores, reads_packed
from cwpo.objectives import bradley_terry
from cwpo.training.base import GlobalMeanTrainer


class BradleyTerryTrainer(GlobalMeanTrainer):
    """Trains on batches of PairCollator. The loss is the mean over pairs of -log sigmoid(chosen - rejected score).

    If batches have a `share` for each pair, the share of people who prefer `chosen`, in [0, 1], a pair's loss is the
    cross-entropy between `share` and sigmoid(chosen - rejected score). A token budget saves work and changes values
    only by rounding: a pair's prompt is computed only once if the model is not wrapped (DDP, FSDP) and reads_packed is
    True; otherwise rows of similar length are computed together (see response_scores).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.budget is not None and not self.is_wrapped:
            plain = self.data_collator.collator
            if reads_packed(self.model, [*self.train_dataset, *(self.eval_dataset or [])]):
                self.data_collator = within_budget(replace(plain, packed=True), self.budget)

    def count_rows(self, inputs: Mapping[str, Tensor]) -> int:
        return len(inputs["lengths"] if "packed_ids" in inputs else inputs["input_ids"]) // 2

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        chosen, rejected = self.scores(model, inputs).chunk(2)
        gap = chosen - rejected
        if "share" not in inputs:
            return bradley_terry(gap)
        return bradley_terry(gap) + (1 - inputs["share"]) * gap

    def scores(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Returns the scores of B pairs, (2 B,), in logits: first all chosen sequences, then all rejected ones."""
        if "packed_ids" in inputs:
            return pair_scores(model, inputs)
        return response_scores(model, inputs["input_ids"], inputs["attention_mask"], lean=self.budget is not None)


class PairRMTrainer(BradleyTerryTrainer):
    """Trains on rows of encode_both_orders: each sequence has a prompt x, a better response y+ and a worse one y-.

    Loss of a pair: [-log sigmoid f(x, y+, y-) - log(1 - sigmoid f(x, y-, y+))] / 2, with f the score of a sequence.
    The first B sequences of PairCollator's batch are (x, y+, y-), the other B are (x, y-, y+).
    """

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        right, swapped = self.scores(model, inputs).chunk(2)
        return (bradley_terry(right) + bradley_terry(-swapped)) / 2
