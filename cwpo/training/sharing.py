"""Several processes share each global batch: together they compute the rows of a single process's batch, each row once.

accelerate's own sharding fills the last batch of an epoch with rows of earlier batches, which would change the mean.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from accelerate.data_loader import DataLoaderShard, SeedableRandomSampler
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, SequentialSampler
from transformers import TrainerCallback

from cwpo.errors import InputError

FILLER = "filler"

Collator = Callable[[Sequence[Any]], dict[str, Any]]


class SharedBatches(Sampler[list[int]]):
    """Yields one process's micro-batches: lists of row indices. Every `batch_size` rows of `order` are a global batch.

    Process r of P gets rows r, r + P, ... of each global batch, in micro-batches of about `micro` rows. All processes
    get equally many micro-batches. If a batch has fewer rows than processes, a process without a row gets index -1: see
    WithFiller.
    """

    def __init__(
        self,
        order: SeedableRandomSampler | SequentialSampler,
        *,
        batch_size: int,
        micro: int,
        process: int,
        processes: int,
    ) -> None:
        self.order, self.batch_size, self.micro = order, batch_size, micro
        self.process, self.processes = process, processes
        self.batch_sampler = self  # transformers calls set_epoch on this attribute

    def set_epoch(self, epoch: int) -> None:
        if isinstance(self.order, SeedableRandomSampler):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.batch_size)
        return whole * self._parts(self.batch_size) + (self._parts(rest) if rest else 0)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for first in range(0, len(rows), self.batch_size):
            yield from self.share(rows[first : first + self.batch_size], filler=-1)

    def share(self, batch: Sequence[Any], filler: Any) -> Iterator[list[Any]]:
        """Yields this process's micro-batches of one global batch; one without a row of the batch gets `filler`."""
        own = batch[self.process :: self.processes]
        parts = self._parts(len(batch))
        for part in range(parts):
            yield list(own[part::parts]) or [filler]

    def _parts(self, rows: int) -> int:
        """Returns the number of micro-batches per process for a batch of `rows` rows: ceil(rows / processes / micro).

        It is one less, but at least 1, if some process would get an empty micro-batch.
        """
        most = -(-rows // self.processes)
        return max(1, min(-(-most // self.micro), rows // self.processes))


class WithFiller(Dataset):
    """The rows of a data set. Index -1 gives a copy of the first row, marked as FILLER; no mean includes such rows."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.rows[index] if index >= 0 else {**self.rows[0], FILLER: True}


class SharedStream(IterableDataset):
    """Yields one process's micro-batches, as lists of rows, of a stream that every process reads: see SharedBatches."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], batches: SharedBatches) -> None:
        super().__init__()
        self.rows, self.batches = rows, batches

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[Mapping[str, Any]]]:
        rows = iter(self.rows)
        while batch := list(islice(rows, self.batches.batch_size)):
            yield from self.batches.share(batch, filler={**batch[0], FILLER: True})


def stream_loader(rows: Any, collator: Collator, args: Any) -> DataLoaderShard:
    """Returns a loader of this process's share of each global batch of a stream, for training: see SharedBatches."""
    batches = _batches(SequentialSampler(()), args)  # rows come in the stream's own order
    stream = SharedStream(rows, batches)
    return DataLoaderShard(stream, batch_size=None, collate_fn=Marking(collator), pin_memory=args.dataloader_pin_memory)


class FirstPassOnly(TrainerCallback):
    """Refuses to resume a stream in its second or a later pass.

    transformers does not know how long a pass is, so it would skip the wrong rows and go on with other pairs than an
    unbroken run. `state.epoch` counts the passes: its whole part is the number of finished ones.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step and (state.epoch or 0) >= 1:
            raise InputError(
                f"resume_from_checkpoint: checkpoint-{state.global_step} lies in pass {int(state.epoch) + 1} over a stream, whose "
                "length is unknown, so training would go on with other pairs than without the break; give the pairs as a list or a "
                "Dataset, or resume from a checkpoint of the first pass"
            )


def shared_loader(rows: Any, collator: Collator, args: Any, micro: int | None = None) -> DataLoader:
    """Returns a loader of this process's share of each global batch, in micro-batches of about `micro` rows: see
    SharedBatches. For training, `micro` is None: micro-batches have args.per_device_train_batch_size rows."""
    if micro is None and args.train_sampling_strategy not in ("random", "sequential"):
        raise InputError(
            f"train_sampling_strategy={args.train_sampling_strategy} works in one process only, not in {args.world_size}; use random "
            "or sequential"
        )
    dataset = WithFiller(rows)
    in_order = args.train_sampling_strategy == "sequential"
    seed = args.data_seed if args.data_seed is not None else args.seed
    order = SequentialSampler(dataset) if in_order else SeedableRandomSampler(dataset, data_seed=seed)
    batches = _batches(order, args, micro)
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=Marking(collator), pin_memory=args.dataloader_pin_memory
    )


def _batches(order: Any, args: Any, micro: int | None = None) -> SharedBatches:
    """Returns the micro-batches of a training; if `micro` is given, those of an evaluation."""
    steps = args.gradient_accumulation_steps if micro is None else 1
    micro = micro or args.per_device_train_batch_size
    return SharedBatches(
        order,
        batch_size=micro * steps * args.world_size,
        micro=micro,
        process=args.process_index,
        processes=args.world_size,
    )


class Marking:
    """Wraps a collator: marks a batch of filler rows as FILLER, or each of its parts if MicroBatches has split it."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.collator(rows)
        if rows[0].get(FILLER):
            for part in batch.get("micro", [batch]):
                part[FILLER] = True
        return batch


def is_filler(inputs: Mapping[str, Any]) -> bool:
    return bool(inputs.get(FILLER))
