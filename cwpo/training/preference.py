"""Weighted preference optimisation as a `transformers.Trainer` (Eq. 8 to 11)."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from cwpo.data.batching import PairCollator, encode_pairs, named, within_budget
from cwpo.errors import InputError
from cwpo.models.logprobs import response_lengths, response_logps
from cwpo.models.packed import can_pack, packed_logps, score_pairs
from cwpo.objectives import pair_losses
from cwpo.runtime import computing_in
from cwpo.training.base import GlobalMeanTrainer, Rows
from cwpo.training.sharing import is_filler
from cwpo.training.streamed import StreamedRows, is_stream

COLUMNS = ("prompt", "chosen", "rejected")
REFERENCE = ("chosen_logp", "rejected_logp")
LOGGED = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "weights/mean",
)


class PreferenceLoss(GlobalMeanTrainer):
    """Minimises mean(w * l) over batches of PairCollator, wherever their pairs come from; see PreferenceTrainer.

    Logs, averaged since the last log: rewards/chosen, rewards/rejected (beta times the log-ratio to the reference),
    rewards/margins, rewards/accuracies, logps/chosen, logps/rejected and weights/mean.
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
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._rows_seen = 0
        super().__init__(*args, **kwargs)

    def collator(self, rows: Sequence[Mapping[str, Any]], pad_id: int) -> PairCollator:
        """The collator of such rows: packed where this gives the model's log-probs."""
        # Where training is distributed (even over one process) the model gets wrapped: its parts must not be called.
        alone = self.accelerator.distributed_type == DistributedType.NO and self.args.n_gpu <= 1
        packed = alone and can_pack(self.model, rows, pad_id)
        if alone and not packed:
            warnings.warn(
                f"{type(self.model).__name__} cannot compute these pairs with their prompts shared; each response is computed "
                "with a prompt of its own: the same result, slower",
                stacklevel=3,
            )
        return PairCollator(pad_id, floats=("weight", *REFERENCE), packed=packed)

    def count_rows(self, inputs: Mapping[str, Tensor]) -> int:
        return len(inputs["weight"])

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        logps, lengths = self._logps(model, inputs)
        reference = torch.cat([inputs["chosen_logp"], inputs["rejected_logp"]])
        ratios = logps - reference
        if self.average_logps:
            ratios = ratios / lengths
        chosen, rejected = ratios.chunk(2)
        margin = chosen - rejected
        if not is_filler(inputs):
            self._record(logps.detach(), chosen.detach(), rejected.detach(), inputs["weight"])
        return inputs["weight"] * pair_losses(self.objective, margin, self.beta, self.flip_rate)

    def _logps(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probs and lengths of the chosen, then the rejected responses, both (2 B,)."""
        if "packed_ids" in inputs:
            return packed_logps(model, inputs), torch.bincount(inputs["sequence"])
        logps = response_logps(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        return logps, response_lengths(inputs["labels"])

    def _record(self, logps: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor) -> None:
        values = (
            self.beta * chosen,
            self.beta * rejected,
            self.beta * (chosen - rejected),
            (chosen > rejected).float(),
            logps[: len(chosen)],
            logps[len(chosen) :],
            weights,
        )
        for name, value in zip(LOGGED, values, strict=True):
            self._sums[name] = self._sums[name].to(value.device) + value.sum()
        self._rows_seen += len(chosen)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._rows_seen or self.args.world_size > 1:
            logs |= self._means()
            self._sums.clear()
            self._rows_seen = 0
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Means since the last log over the rows of all processes."""
        rows, sums = self._rows_seen, dict(self._sums)
        if self.args.world_size > 1:
            own = torch.stack(
                [
                    *(sums.get(name, torch.zeros(())).to(self.args.device) for name in LOGGED),
                    torch.tensor(float(rows), device=self.args.device),
                ]
            )
            *totals, counted = self.accelerator.reduce(own, reduction="sum")
            rows, sums = int(counted), dict(zip(LOGGED, totals, strict=True))
        return {name: (total / rows).item() for name, total in sums.items()} if rows else {}

    def window(self) -> dict[str, Any]:
        sums = {name: total.item() for name, total in self._sums.items()}
        return super().window() | {"sums": sums, "rows": self._rows_seen}

    def restore_window(self, values: Mapping[str, Any]) -> None:
        super().restore_window(values)
        self._rows_seen = values["rows"]
        for name, total in values["sums"].items():
            self._sums[name] = torch.tensor(total, device=self.args.device)


class PreferenceTrainer(PreferenceLoss):
    """Minimises mean(w * l) over preference pairs with per-pair weights.

    model: a causal LM, or a PEFT model around one. Dropout in it should be off (`load_policy` does that).
    train_dataset: rows with prompt, chosen, rejected, weight (>= 0) and, where known, chosen_logp and rejected_logp,
        the reference's sequence log-probs. Without those two columns the model as handed in is the reference. Anything
        that yields dicts will do: a `datasets.Dataset`, a list, a table's records. A missing weight is an error.
        With args.max_steps a streamed `datasets` set is read, tokenised and scored chunk by chunk, in its own order; the
        reference then is a copy of the model. Otherwise all rows are read at once.
    processing_class: the tokenizer. objective: dpo, ipo or rdpo. beta > 0. flip_rate in [0, 0.5), rDPO's.
    average_logps: divide each log-prob by its response's tokens (some trainers do so for IPO; the paper sums).
    weight_column: read the weights from a column of another name. A column pair_id, if there is one, names pairs in errors.
    token_budget: compute each device's batch in parts of at most so many tokens; the update stays the same.

    Logs what PreferenceLoss does.
    Raises InputError for missing columns, for weights or log-probs that are negative, NaN or infinite, and for weights
    that are all 0.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        train_dataset: Iterable[Mapping[str, Any]],
        *,
        processing_class: PreTrainedTokenizerBase,
        objective: str = "dpo",
        beta: float = 0.5,
        flip_rate: float = 0.1,
        average_logps: bool = False,
        weight_column: str = "weight",
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        pair_losses(objective, torch.zeros(1), beta, flip_rate)  # refuses before anything is scored
        if processing_class.pad_token_id is None:
            processing_class.pad_token = processing_class.eos_token  # padding is masked everywhere
        pad_id = processing_class.pad_token_id
        args.remove_unused_columns = False  # the collator makes the model's inputs from other columns
        plain = PairCollator(pad_id, floats=("weight", *REFERENCE))
        rows: Rows | StreamedRows
        if args.max_steps > 0 and is_stream(train_dataset):
            args.accelerator_config.dispatch_batches = (
                False  # each process takes its share of the rows itself
            )
            rows = StreamedRows(
                train_dataset, _scored_by(model, processing_class, weight_column, token_budget)
            )
        else:
            with computing_in("bfloat16" if args.bf16 else "float32", args.device.type):
                rows = Rows(
                    preference_rows(model, processing_class, list(train_dataset), weight_column, token_budget)
                )
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows,
            data_collator=plain,
            processing_class=processing_class,
            objective=objective,
            beta=beta,
            flip_rate=flip_rate,
            average_logps=average_logps,
            **kwargs,
        )
        collator = self.collator(rows.rows, pad_id) if isinstance(rows, Rows) else plain
        self.data_collator = within_budget(collator, token_budget)


def _scored_by(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, weight_column: str, token_budget: int | None
) -> Callable[[list[Mapping[str, Any]]], list[dict[str, Any]]]:
    """preference_rows whose reference is the model as it is now, wherever it moves and whatever it learns."""
    reference = copy.deepcopy(model).eval().requires_grad_(False)

    def rows_of(examples: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        reference.to(next(model.parameters()).device)
        return preference_rows(reference, tokenizer, examples, weight_column, token_budget)

    return rows_of


def preference_rows(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[Mapping[str, Any]],
    weight_column: str = "weight",
    token_budget: int | None = None,
) -> list[dict[str, Any]]:
    """Checked and tokenised rows for PairCollator; reference log-probs come from `model` where the rows have none."""
    if not examples:
        raise InputError("the training data has no pairs")
    missing = [name for name in (*COLUMNS, weight_column) if any(name not in row for row in examples)]
    if missing:
        raise InputError(
            f"the training data lacks the column {', '.join(missing)}; it has {', '.join(examples[0])}. "
            "Weights are never assumed: add a column of ones for unweighted training"
        )
    weights = _numbers(examples, weight_column, low=0.0)
    if not any(weights):
        raise InputError(
            f"column {weight_column}: all {len(weights)} weights are 0, so nothing would be learned from any pair"
        )
    texts = {name: [row[name] for row in examples] for name in COLUMNS}
    rows = encode_pairs(
        tokenizer,
        texts["prompt"],
        texts["chosen"],
        texts["rejected"],
        weight=weights,
    )
    if all(name in examples[0] for name in REFERENCE):
        reference = {name: _numbers(examples, name) for name in REFERENCE}
    else:
        scores = score_pairs(model, rows, tokenizer.pad_token_id, token_budget)
        reference = dict(zip(REFERENCE, (part.tolist() for part in scores), strict=True))
    for name, values in reference.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return named(rows, [str(row.get("pair_id", f"row {i}")) for i, row in enumerate(examples)])


def _numbers(examples: list[Mapping[str, Any]], name: str, low: float = float("-inf")) -> list[float]:
    bad = [
        (i, row.get(name))
        for i, row in enumerate(examples)
        if not isinstance(row.get(name), Real)
        or not low <= row[name] < float("inf")
        or row[name] == float("-inf")
    ]
    if bad:
        index, value = bad[0]
        bound = "finite numbers" if low == float("-inf") else f"finite numbers, at least {low:g}"
        raise InputError(
            f"column {name}: {len(bad)} of {len(examples)} values are not {bound}; row {index} has {value!r}"
        )
    return [float(row[name]) for row in examples]
