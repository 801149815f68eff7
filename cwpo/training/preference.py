"""Weighted preference optimisation as a `transformers.Trainer` (Eq. 8 to 11)."""

import contextlib
import copy
import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from cwpo.data.batching import PairCollator, within_budget
from cwpo.errors import InputError
from cwpo.models.heads import head_of
from cwpo.models.lengths import ONE_LENGTH
from cwpo.models.limits import tokenizer_problems
from cwpo.models.logprobs import in_lines, response_lengths
from cwpo.models.mending import dropout_off
from cwpo.models.packed import Layout, exact_layout, score_pairs
from cwpo.objectives import pair_losses
from cwpo.runtime import computing_in
from cwpo.training.base import GlobalMeanTrainer
from cwpo.training.pairs import (
    REFERENCE,
    Reference,
    Rows,
    StreamedRows,
    encoded_rows,
    enter_reference,
    examples_of,
    is_stream,
    lack_reference,
    read_here,
)
from cwpo.training.sharing import is_filler

LOGGED = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "weights/mean",
)
FLOATS = ("weight", *REFERENCE)
OWN_LOSS = "The trainer collates and minimises mean(weight * loss); objective=, beta= and flip_rate= choose the loss"
OWN_METRICS = "An evaluation computes as training does and makes no predictions; it logs eval_loss and eval_rewards/*"
OWN_ARGUMENTS = "It is TRL's: hand in transformers.TrainingArguments, and beta= and objective= apart from these"
UNREAD = {  # options of transformers' and TRL's trainers that have no effect here, or a wrong one
    "compute_loss_func": OWN_LOSS,
    "data_collator": OWN_LOSS,
    "dataloader_drop_last": "Every pair counts: the loss of the last batch is the mean over the pairs that it has",
    "label_smoothing_factor": OWN_LOSS,
    "bf16_full_eval": OWN_METRICS,
    "compute_metrics": OWN_METRICS,
    "fp16_full_eval": OWN_METRICS,
    "preprocess_logits_for_metrics": OWN_METRICS,
    "loss_type": OWN_ARGUMENTS,
    "neftune_noise_alpha": "Policy and reference must be the same model at step 0, so the policy gets no noise",
}


class PreferenceLoss(GlobalMeanTrainer):
    """Minimises mean(weight * loss) over the pairs in batches of PairCollator. Subclasses supply the pairs.

    Logs means over the pairs since the last log: rewards/chosen and rewards/rejected (beta times the log-ratio to the
    reference), rewards/margins (their difference), rewards/accuracies (1 if it is > 0, else 0), logps/chosen,
    logps/rejected and weights/mean. self._sums holds the sums of these values in the order of LOGGED, then the count.
    """

    def __init__(
        self,
        *args: Any,
        objective: str = "dpo",
        beta: float = 0.5,
        flip_rate: float = 0.1,
        average_logps: bool = False,
        **kwargs: Any,
    ) -> None:
        pair_losses(objective, torch.zeros(1), beta, flip_rate)
        self.objective, self.beta, self.flip_rate = objective, beta, flip_rate
        self.average_logps = average_logps
        self.layout = Layout()
        super().__init__(*args, **kwargs)
        if was_on := dropout_off(self.model):
            rates = ", ".join(f"{name}={rate:g}" for name, rate in was_on.items())
            warnings.warn(
                f"dropout was on in the model ({rates}) and is switched off: policy and reference must be the same model at step 0",
                stacklevel=2,
            )

    def collator(self, rows: Sequence[Mapping[str, Any]], pad_id: int, layout: Layout | None = None) -> PairCollator:
        """Sets self.layout and returns a collator for it. `layout`: result of exact_layout for `rows`, if known."""
        name = type(self.model).__name__
        if self.is_wrapped:
            first = self.args.process_index == 0  # the other processes may hold no weights yet
            if first and exact_layout(self.model, rows, pad_id, whole=True).by_length:
                raise InputError(ONE_LENGTH.format(name=name))
            self.layout = Layout()
        else:
            self.layout = layout or exact_layout(self.model, rows, pad_id)
            if not self.layout.packed:
                lengths = ", one length at a time" if self.layout.by_length else ""
                warnings.warn(
                    f"{name} cannot compute these pairs with their prompts shared; each response is computed with a prompt of its "
                    f"own{lengths}: the same result, slower",
                    stacklevel=3,
                )
        with self.accelerator.autocast():
            lines = self.layout.packed and in_lines(self.model)
        return PairCollator(pad_id, floats=FLOATS, packed=self.layout.packed, lines=lines)

    def count_rows(self, inputs: Mapping[str, Tensor]) -> int:
        return len(inputs["weight"])

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        logps = self.layout.pair_logps(model, inputs)
        ratios = logps - torch.cat([inputs["chosen_logp"], inputs["rejected_logp"]])
        if self.average_logps:
            lengths = inputs["lengths"] if "packed_ids" in inputs else response_lengths(inputs["labels"])
            ratios = ratios / lengths.clamp(min=1)  # a response sampled online may have no token
        chosen, rejected = ratios.chunk(2)
        margin = chosen - rejected
        if not is_filler(inputs):
            self._record(logps.detach(), chosen.detach(), rejected.detach(), inputs["weight"])
        return inputs["weight"] * pair_losses(self.objective, margin, self.beta, self.flip_rate)

    def _record(self, logps: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor) -> None:
        values = (
            self.beta * chosen,
            self.beta * rejected,
            self.beta * (chosen - rejected),
            (chosen > rejected).float(),
            logps[: len(chosen)],
            logps[len(chosen) :],
            weights,
            torch.ones_like(weights),
        )
        sums = torch.stack([value.sum() for value in values])
        self._sums = sums if self._sums is None else self._sums + sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs or "train_loss" in logs:
            logs |= self._means()
            self._sums = None
        super().log(logs, start_time)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Returns as metrics the means of weight * loss and of the LOGGED values over all pairs of a data set."""
        kept, self._sums = self._sums, None
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        output.metrics.update({f"{metric_key_prefix}_{name}": mean for name, mean in self._means().items()})
        self._sums = kept
        return output

    def _means(self) -> dict[str, float]:
        """Returns the means of the LOGGED values over the rows of all processes since the last log; {} without rows."""
        sums = self._sums
        if self.args.world_size > 1:
            own = torch.zeros(len(LOGGED) + 1) if sums is None else sums
            sums = self.accelerator.reduce(own.to(self.args.device), reduction="sum")
        if sums is None or not sums[-1]:
            return {}
        return dict(zip(LOGGED, (sums[:-1] / sums[-1]).tolist(), strict=True))

    def window(self) -> dict[str, Any]:
        *sums, rows = (0.0,) if self._sums is None else self._sums.tolist()
        return super().window() | {"sums": sums or None, "rows": int(rows)}

    def restore_window(self, values: Mapping[str, Any]) -> None:
        super().restore_window(values)
        if values["rows"]:
            self._sums = torch.tensor([*values["sums"], values["rows"]], device=self.args.device)


class PreferenceTrainer(PreferenceLoss):
    """Minimises mean(weight * loss) over preference pairs, each with its own weight.

    model: a causal LM, or a PEFT model around one. Its dropout is switched off, and trainable weights of 16 bits are
        widened to float32; both give a warning.
    train_dataset: rows with prompt, chosen, rejected (texts, or lists of chat messages), weight (>= 0) and, if known,
        chosen_logp and rejected_logp, the reference's sequence log-probs. Without those two columns the model as handed
        in is the reference. Anything that yields dicts will do: a `datasets.Dataset`, a list, a table's records. A
        missing weight is an error. With args.max_steps a streamed `datasets` set is read, tokenised and scored chunk by
        chunk, in its own order and in this process, whatever args.dataloader_num_workers says. Otherwise all rows are
        read at once.
    eval_dataset: rows of the same kind, or a dict of several such sets. Logs the same values, named eval_*.
    processing_class: the tokenizer. objective: dpo, ipo or rdpo. beta > 0. flip_rate: that of rDPO, in [0, 0.5).
    average_logps: divides each log-ratio by the number of tokens of its response, as some do for IPO; the paper sums.
    weight_column: the name of the column of weights. If the data has a column pair_id, errors name pairs by it.
    token_budget: the most tokens of a batch that a device computes at once, "auto", or None for no limit; the update
        stays the same. FSDP needs None.

    Logs the values that PreferenceLoss lists. Raises InputError for missing columns or texts, for weights or log-probs
    that are NaN or infinite, for weights that are negative or all 0, for pairs that are longer than the model's context
    or have tokens beyond its vocabulary, for a tokenizer without EOS, and for options in UNREAD.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        train_dataset: Iterable[Mapping[str, Any]],
        eval_dataset: Any = None,
        *,
        processing_class: PreTrainedTokenizerBase,
        objective: str = "dpo",
        beta: float = 0.5,
        flip_rate: float = 0.1,
        average_logps: bool = False,
        weight_column: str = "weight",
        token_budget: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        pair_losses(objective, torch.zeros(1), beta, flip_rate)  # raises for wrong settings before anything is scored
        if not isinstance(model, nn.Module):
            raise InputError(f"model is {model!r}; hand in a loaded model: cwpo.models.policy.load_policy(path)")
        if unread := [name for name in UNREAD if kwargs.get(name, getattr(args, name, None))]:
            raise InputError(
                f"{', '.join(unread)}: PreferenceTrainer does not take this; leave it out. {UNREAD[unread[0]]}"
            )
        if processing_class.pad_token_id is None:
            processing_class.pad_token = processing_class.eos_token  # padding is masked everywhere
        if problems := tokenizer_problems(processing_class, model.config):
            raise InputError(problems)
        args.remove_unused_columns = False  # the collator makes the model's inputs from other columns
        self._read = functools.partial(encoded_rows, processing_class, model.config, weight_column=weight_column)
        self._pad_id = processing_class.pad_token_id
        plain = PairCollator(self._pad_id, FLOATS)
        streamed = args.max_steps > 0 and is_stream(train_dataset)
        if streamed:
            read_here(args)
            train_rows: Any = StreamedRows(examples_of(train_dataset), self._read_and_score)
        else:
            train_rows = Rows(self._read(list(examples_of(train_dataset))))
        sets = eval_dataset if isinstance(eval_dataset, dict) else {"": eval_dataset}  # a single one is named ""
        tests = {name: self._read(list(examples_of(part))) for name, part in sets.items() if part is not None}
        parts = [*([] if streamed else [train_rows]), *tests.values()]
        rows = list(itertools.chain(*parts))
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_rows,
            eval_dataset=tests if isinstance(eval_dataset, dict) else tests.get(""),
            data_collator=plain,
            processing_class=processing_class,
            objective=objective,
            beta=beta,
            flip_rate=flip_rate,
            average_logps=average_logps,
            token_budget=token_budget,
            **kwargs,
        )
        if streamed:
            self._reference = self._initial()
        layout = self._score(parts) if lack_reference(rows) else None  # on the device, where the model is by now
        collator = self.collator(rows, self._pad_id, layout) if rows else plain
        self.data_collator = within_budget(plain if streamed else collator, self.budget)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        if not isinstance(eval_dataset, str | None) and any("chosen_ids" not in row for row in eval_dataset):
            raise InputError(
                "evaluate() and predict() take the trainer's own sets only, since the reference is gone once training began: hand in "
                "all sets as eval_dataset={name: rows, ...} when the trainer is made, then evaluate(trainer.eval_dataset[name])"
            )
        return super().get_eval_dataloader(eval_dataset)

    def _score(self, parts: list[Any]) -> Layout:
        """Writes the reference's log-probs into each data set that lacks them; returns the exact_layout of all rows."""
        layout = exact_layout(self.model, list(itertools.chain(*parts)), self._pad_id)
        for part in parts:
            self._enter_reference(self.model, part, layout)
        return layout

    def _enter_reference(self, model: nn.Module, rows: Any, layout: Layout) -> None:
        if not lack_reference(rows):
            return
        precision = "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32"
        with computing_in(precision, self.args.device.type):  # as training does, so that all margins are 0 at step 0
            scores = score_pairs(model, rows, self._pad_id, self.budget.tokens if self.budget else None, layout)
        enter_reference(rows, *(side.tolist() for side in scores))

    def _initial(self) -> tuple[nn.Module, Callable[[], AbstractContextManager]]:
        """Returns the model as it is now, for the time when it is trained, and the context in which to call it."""
        if self.is_wrapped:  # then no submodule may be called, and a process may hold no whole weight
            return copy.deepcopy(self.model).eval().requires_grad_(False), contextlib.nullcontext
        return self.model, Reference(self.model).in_place

    def _read_and_score(self, examples: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns a stream's examples as rows with log-probs of the reference, the model as it was before training."""
        rows = self._read(examples, streamed=True)
        reference, in_place = self._reference
        reference.to(next(self.model.parameters()).device)
        with in_place():
            layout = exact_layout(reference, rows, self._pad_id, whole=self.is_wrapped)
            self._allow(layout)
            self._enter_reference(reference, rows, layout)
        return rows

    def _allow(self, layout: Layout) -> None:
        """Sets self.layout (how to compute log-probs) for a new chunk of a stream; `layout` is exact for this chunk.

        self.layout is never packed. It has a head if `layout` has one. It is by_length if any chunk so far was.
        """
        if layout.by_length and self.is_wrapped:
            raise InputError(ONE_LENGTH.format(name=type(self.model).__name__))
        head = None if layout.head is None else head_of(self.model)
        self.layout = Layout(by_length=self.layout.by_length or layout.by_length, head=head)
