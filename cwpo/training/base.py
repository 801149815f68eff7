"""The base class of every trainer here: its loss is an exact mean over the rows of the global batch."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import DistributedType
from accelerate.utils.memory import clear_device_cache
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from cwpo.data.batching import Budget, PairCollator, SequenceCollator, within_budget
from cwpo.errors import InputError
from cwpo.finite import listed
from cwpo.models.memory import out_of_memory
from cwpo.models.mending import float32_masters, mend_generation_config
from cwpo.models.side_by_side import threads_of
from cwpo.runtime import keep_freed_memory
from cwpo.training.memory import back_off, forget_peak, measure, memory_of
from cwpo.training.sharing import FILLER, FirstPassOnly, is_filler, shared_loader, stream_loader
from cwpo.training.threads import draws, step_in_threads


class GlobalMeanTrainer(Trainer):
    """A Trainer whose loss is a mean over all rows of the optimiser's batch, however that batch is split.

    `row_losses(model, inputs)` of a subclass returns one loss per row, shape (B,). Their sum is divided by the number
    of rows in the global batch, so 1 batch of 8 rows gives the same update as 8 accumulated batches of 1 row, as 8
    processes with 1 row each, and as a split by MicroBatches. Under args.bf16 all of `row_losses`, with the submodules
    that it calls, runs in bfloat16 autocast.
    A NaN or infinite loss or gradient raises FloatingPointError before the weights change; the error names the pairs.
    """

    loss_is_scaled_for_ga = True
    control: Any

    def __init__(self, *args: Any, token_budget: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if token_budget is not None and self.accelerator.distributed_type == DistributedType.FSDP:
            raise InputError(
                f"token_budget={token_budget}: under FSDP all processes must run the model equally often, and batches cut by tokens have "
                "unequal numbers of parts, so training would hang; leave token_budget out and lower per_device_train_batch_size"
            )
        self.budget = Budget.of(token_budget, self.args.device.type)
        self.data_collator: Any
        if isinstance(self.data_collator, SequenceCollator | PairCollator):
            self.data_collator = within_budget(self.data_collator, self.budget)
        if isinstance(self.train_dataset, IterableDataset):
            self.add_callback(FirstPassOnly())
        if (notice := float32_masters(self.model)) is not None:
            warnings.warn(notice, stacklevel=3)
        mend_generation_config(self.model)
        if self.args.device.type == "cpu":
            keep_freed_memory()
        # of the current optimiser step, per part: loss, its rows' losses, pair ids
        self._losses: list[tuple[Tensor, Tensor, Sequence[str]]] = []
        self._sums: Tensor | None = None  # sums for the logs, if a subclass keeps any
        self._crew: int | None = None  # number of threads that share a batch's parts; None: not decided yet
        self._tr_loss: Tensor  # the sum of losses since the last log, while training

    @property
    def is_wrapped(self) -> bool:
        """Whether training wraps the model (DDP, FSDP). If so, only the whole model may be called, no submodule."""
        return self.accelerator.distributed_type != DistributedType.NO or self.args.n_gpu > 1

    def get_train_dataloader(self) -> DataLoader:
        """Returns a loader of this process's share of each global batch."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        if isinstance(self.train_dataset, IterableDataset):
            return stream_loader(self.train_dataset, self.data_collator, self.args)
        return shared_loader(self.train_dataset, self.data_collator, self.args)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Loads this process's share of `eval_dataset`: rows, a key of self.eval_dataset, or None for all of it."""
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        return shared_loader(rows, self.data_collator, self.args, micro=self.args.per_device_eval_batch_size)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        return self.get_eval_dataloader(test_dataset)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if not any(weight.requires_grad for weight in self.model.parameters()):
            raise InputError(
                "the model has no trainable weights: all are frozen; load trained adapters with "
                "PeftModel.from_pretrained(..., is_trainable=True), or set requires_grad of some weights"
            )
        return super().create_optimizer(model)

    def evaluation_loop(
        self, dataloader: DataLoader, *_: Any, metric_key_prefix: str = "eval", **__: Any
    ) -> EvalLoopOutput:
        """Returns the mean loss over all rows of the data set, computed as in training, and no predictions."""
        model = self._wrap_model(self.model, training=False)
        model.eval()
        self.callback_handler.eval_dataloader = dataloader
        sums = torch.zeros(2, dtype=torch.float64)  # the sum of the losses, the number of rows
        for batch in dataloader:
            for part in _parts(self._prepare_inputs(batch)):
                with torch.no_grad(), self.accelerator.autocast():
                    losses = self.row_losses(model, part)
                if not is_filler(part):
                    sums += torch.tensor([losses.cpu().double().sum(), len(losses)])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device, torch.float32), reduction="sum")
        total, rows = sums.tolist()
        metrics = {f"{metric_key_prefix}_loss": total / rows}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=int(rows))

    def row_losses(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define row_losses")

    def count_rows(self, inputs: Mapping[str, Tensor]) -> Tensor | int:
        """Returns the number of rows of a batch whose losses count in the mean, as an int or a tensor on the device."""
        return len(inputs["input_ids"])

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Returns 0: nobody reads the count, and counting would walk through all modules in every step."""
        return 0

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Runs forward and backward part by part; returns the batch's loss. If memory runs out, halves the parts."""
        if inputs.keys() == {FILLER}:
            return torch.zeros((), device=self.args.device)
        sums = self._sums
        # Measure after the first step, when the optimiser's state is in memory too.
        measuring = self.budget if self.budget and self.budget.measured and self.state.global_step > 0 else None
        if measuring:
            forget_peak(self.args.device)
        try:
            loss = self._step(model, inputs, num_items_in_batch)
            if measuring:
                measure(measuring, memory_of(self.args.device), max(map(_tokens, _parts(inputs))))
            return loss
        except RuntimeError as error:
            alone = self.args.world_size == 1 and self.args.gradient_accumulation_steps == 1
            if not (alone and self.budget and "whole" in inputs and out_of_memory(error)):
                raise
            inputs = back_off(self.budget, inputs, error)
        model.zero_grad()
        self._losses.clear()
        self._sums = sums
        clear_device_cache(garbage_collection=True)  # outside `except`, where the traceback no longer holds tensors
        return self.training_step(model, inputs, num_items_in_batch)

    def _step(self, model: torch.nn.Module, inputs: dict[str, Any], count: Tensor | int | None) -> Tensor:
        *parts, last = _parts(inputs)
        if parts and (threads := self._threads(model, last)) > 1:
            return step_in_threads(self, model, [*parts, last], count, threads)
        losses = []
        for part in parts:
            with self.accelerator.no_sync(model):  # processes exchange gradients after the last part only
                losses.append(super().training_step(model, part, count))
        losses.append(super().training_step(model, last, count))
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _threads(self, model: torch.nn.Module, part: dict[str, Any]) -> int:
        """Returns how many CPU threads compute a batch's parts. The first call decides, by a trial with `part` that
        leaves the random state as it was."""
        if self._crew is None:
            alone = not self.is_wrapped and self.args.gradient_accumulation_steps == 1
            self._crew = threads_of(model) if alone else 1
            if self._crew > 1 and draws(self, model, part):
                self._crew = 1
        return self._crew

    @property
    def between_rounds(self) -> bool:
        """Whether a checkpoint may be written now: always, but in OnlineTrainer only if all sampled pairs are used."""
        return True

    def window(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, as JSON values: the loss summed since the last log, and that log's step."""
        return {"loss": self._tr_loss.item(), "logged": self._globalstep_last_logged}

    def restore_window(self, values: Mapping[str, Any]) -> None:
        """Continues the logs of an earlier run. `values`: what its `window` returned at the checkpoint."""
        self._tr_loss = self._tr_loss + values["loss"]
        self._globalstep_last_logged = values["logged"]

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Returns one step's micro-batches and their number of rows. If the data end within the step, empty batches are
        put in front, up to `num_batches`: with fewer, the Trainer would make no update at the end of this step."""
        batch_samples, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batch_samples:
            batch_samples = [{FILLER: True}] * (num_batches - len(batch_samples)) + batch_samples
        return batch_samples, count

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Counts the tokens that the model computes; a prompt shared by two responses counts once. The Trainer's own
        method finds no tokens in packed pairs, split batches and filler, and warns of each such batch."""
        if (way := self.args.include_num_input_tokens_seen) == "no":
            return
        parts = [part for part in _parts(inputs) if not is_filler(part)]
        masked = [way == "non_padding" and "attention_mask" in part for part in parts]
        counts = [int(p["attention_mask"].sum()) if m else _tokens(p) for p, m in zip(parts, masked, strict=True)]
        counted = self.accelerator.gather(torch.tensor(sum(counts), device=self.args.device))
        self.state.num_input_tokens_seen += int(counted.sum())

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """Returns the gradient's norm. Raises FloatingPointError if a loss is not finite. Raises it also for a
        norm that is not finite, except in float16."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        computed, self._losses = self._losses, []
        scaled = self.accelerator.scaler is not None  # float16: steps with an infinite gradient are skipped
        looked_at = [loss.float() for loss, *_ in computed]
        if not scaled:  # the norm over shards is no plain Tensor
            looked_at.append(norm if type(norm) is Tensor else torch.tensor(float(norm), device=self.args.device))
        if torch.stack(looked_at).isfinite().all():  # here a step waits for the device, once
            return norm
        for loss, losses, pairs in computed:
            if not loss.isfinite():
                raise FloatingPointError(
                    f"the loss became {loss.item()} at step {self.state.global_step}{_blame(losses, pairs)}"
                )
        batch = _batch([pair for *_, pairs in computed for pair in pairs])
        raise FloatingPointError(f"the gradient became {float(norm)} at step {self.state.global_step}{batch}")

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        parts = [part for batch in batch_samples for part in _parts(batch)]
        counted = sum(self.count_rows(part) for part in parts if not is_filler(part))
        rows = torch.as_tensor(counted, device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        with self.accelerator.autocast():
            losses = self.row_losses(model, inputs)
        if is_filler(inputs):
            losses = losses * 0.0
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            # Gradients are averaged over processes, so each process multiplies its sum by the number of processes.
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        self._losses.append((loss.detach(), losses.detach(), inputs.get("pair_id", [])))
        return (loss, {"loss": loss}) if return_outputs else loss


def _blame(losses: Tensor, pairs: Sequence[str]) -> str:
    """Returns the end of an error message: the pairs whose losses are not finite, if known, and then all `pairs`."""
    broken = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    own = [pairs[i] for i in broken] if len(losses) == len(pairs) else []
    return (f", in the loss of pair {listed(own)}" if own else "") + _batch(pairs)


def _batch(pairs: Sequence[str]) -> str:
    return f"; pairs of the batch: {listed(pairs)}" if pairs else ""


def _tokens(part: Mapping[str, Any]) -> int:
    """Returns the number of tokens that the model computes for a part, padding included."""
    return part.get("packed_ids", part.get("input_ids")).numel()


def _parts(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the parts into which MicroBatches split a batch; for any other batch, the batch as the only part."""
    return inputs.get("micro", [inputs])


class Curve(TrainerCallback):
    """Hands the Trainer's logs to `log(values, step)` and the number of steps done to `progress(done, total)`."""

    def __init__(self, log: Callable[[Mapping[str, float], int], None], progress: Callable[[int, int], None]) -> None:
        self._log, self._progress = log, progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """If the training continues from a checkpoint, hands the logs from before that checkpoint to `log`."""
        for row in state.log_history:
            self._hand_on(state, row)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **kwargs: Any) -> None:
        self._hand_on(state, {**logs, "step": state.global_step})

    def _hand_on(self, state: Any, row: Mapping[str, Any]) -> None:
        if state.is_world_process_zero and "loss" in row:
            self._log({name: value for name, value in row.items() if name != "step"}, row["step"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress(state.global_step, state.max_steps)
