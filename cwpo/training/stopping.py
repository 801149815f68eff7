"""Early stopping on the loss of held-out rows."""

from typing import Any

import torch
from transformers import TrainerCallback


class EarlyStopping(TrainerCallback):
    """Measures eval_loss after every epoch, stops once it is not lower than before, and goes back to the best weights."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.lowest = float("inf")
        self.best: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = self.trainer.evaluate()["eval_loss"]
        if not loss < self.lowest:
            control.should_training_stop = True
            return
        self.lowest = loss
        self.best = {name: value.detach().clone() for name, value in self.trainer.model.state_dict().items()}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.best:
            self.trainer.model.load_state_dict(self.best)
