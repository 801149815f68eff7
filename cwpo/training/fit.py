"""Functions that train a model and save it: SFT, annotators, and preference optimisation, offline or online."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PrinterCallback, TrainerCallback

from cwpo.data.batching import PairCollator, SequenceCollator, named
from cwpo.data.encoding import Text, encode, encode_pairs
from cwpo.models.adapters import Base, base_of, is_adapters
from cwpo.models.annotator import new_annotator
from cwpo.models.pairrm import encode_both_orders
from cwpo.models.policy import DTYPES, add_lora, load_adapted, load_policy, load_tokenizer
from cwpo.models.reward_models import HEAD
from cwpo.runtime import free_memory
from cwpo.training.arguments import training_arguments
from cwpo.training.base import Curve
from cwpo.training.bradley_terry import BradleyTerryTrainer, PairRMTrainer
from cwpo.training.checkpoints import Schedule, train
from cwpo.training.preference import PreferenceTrainer
from cwpo.training.saving import save_trained
from cwpo.training.sft import SFTTrainer

NEVER = Schedule()


class EarlyStopping(TrainerCallback):
    """Measures eval_loss after every epoch, stops after the first that does not lower it, restores the best weights."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.lowest = float("inf")
        self.best: dict[str, Any] = {}

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


@dataclass(frozen=True)
class Site:
    """Where a training runs, what it writes and to whom it reports. These settings change no result.

    The model is written to the folder `out`. `checkpoints` is a folder that remains if the process is killed; if None,
    `schedule` is ignored. `token_budget`: as in PreferenceTrainer. `sharded`: each of several processes holds a part of
    the model. `log` gets (values, step) for each row of the training curve. `progress` gets (steps done, steps in
    total) after each step.
    """

    out: Path
    device: str = "cpu"
    token_budget: int | str | None = None
    checkpoints: Path | None = None
    schedule: Schedule = NEVER
    sharded: bool = False
    log: Callable[[Mapping[str, float], int], None] = lambda values, step: None
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Start:
    """The model that a training starts from: a folder, or a hub id and its `revision`. `chat`: as in load_tokenizer."""

    path: str | Path
    revision: str | None = None
    chat: bool | None = None


class Comparisons(NamedTuple):
    """N labelled pairs. Errors refer to them by `names`. `target`: shares of people who prefer `chosen`, in [1/2, 1].

    If `target` is None, every share is 1. PairRM cannot learn from shares: its `target` must be None.
    """

    names: Sequence[str]
    prompts: Sequence[Text]
    chosen: Sequence[Text]
    rejected: Sequence[Text]
    target: Sequence[float] | None = None


@dataclass(frozen=True)
class Fitted:
    """A finished training: the number of training `rows`, that of optimiser `steps`, and the `curve` of logged values.

    `seconds`: training time, including that of killed runs up to their last checkpoint; `setup_seconds`: time before
    training began. `held_out`: the loss on held-out pairs after each epoch, empty without such pairs.
    """

    rows: int
    seconds: float
    setup_seconds: float
    steps: int
    curve: list[dict[str, float]]
    held_out: list[float]

    @property
    def summary(self) -> dict[str, Any]:
        return {"n_train": self.rows, "train_seconds": round(self.seconds, 3)}


def fit_sft(
    site: Site,
    names: Sequence[str],
    prompts: Sequence[Text],
    responses: Sequence[Text],
    *,
    start: Start,
    training: Any,
    seed: int,
    lora: Any = None,
) -> Fitted:
    """Fine-tunes a causal LM on N prompts + responses. Errors refer to them by `names`. `lora`: LoraConfig or None."""
    tokenizer = load_tokenizer(start.path, start.revision, chat=start.chat)
    rows = named([{"ids": ids, "start": at} for ids, at in encode(tokenizer, prompts, responses)], names)
    return _fit(
        site,
        SFTTrainer,
        tokenizer,
        functools.partial(adapted, start, lora, seed, dropout=True),
        rows,
        training,
        seed,
        base=base_under(start, lora, site.out),
        data_collator=SequenceCollator(tokenizer.pad_token_id),
    )


def fit_annotator(
    site: Site,
    pairs: Comparisons,
    *,
    start: Start,
    training: Any,
    head_std: float,
    seed: int,
    joint: bool = False,
    held_out: Comparisons | None = None,
) -> Fitted:
    """Trains a model with a new scalar head: PairRM if `joint`, else Bradley-Terry, which scores one response (Eq. 5).

    With `held_out` pairs, training stops when their loss no longer falls, and the model is that of the best epoch.
    """
    tokenizer = load_tokenizer(start.path, start.revision, chat=start.chat)
    tokenizer.init_kwargs[HEAD] = "pairrm" if joint else "bt"
    pad_id = tokenizer.pad_token_id

    def rows_of(labelled: Comparisons) -> list[dict[str, Any]]:
        names, *texts, target = labelled
        soft: Any = {} if target is None else {"share": target}
        rows: Any = encode_both_orders(tokenizer, *texts) if joint else encode_pairs(tokenizer, *texts, **soft)
        return named(rows, names)

    return _fit(
        site,
        PairRMTrainer if joint else BradleyTerryTrainer,
        tokenizer,
        functools.partial(new_annotator, start.path, start.revision, pad_id=pad_id, head_std=head_std, seed=seed),
        rows_of(pairs),
        training,
        seed,
        eval_dataset=None if held_out is None else rows_of(held_out),
        data_collator=PairCollator(pad_id, floats=() if pairs.target is None else ("share",)),
    )


def fit_preference(
    site: Site,
    rows: Sequence[Mapping[str, Any]],
    *,
    start: Start,
    training: Any,
    seed: int,
    lora: Any = None,
    kind: Any = PreferenceTrainer,
    **settings: Any,
) -> Fitted:
    """Trains the policy at `start`, or only its adapters if `lora` is enabled, by preference optimisation (Eq. 8 to 11).

    `kind`: PreferenceTrainer, which learns from the pairs in `rows`, or OnlineTrainer, which samples responses to the
    prompts in `rows`. `settings`: more arguments of the trainer.
    """
    tokenizer = load_tokenizer(start.path, start.revision, chat=start.chat)
    return _fit(
        site,
        kind,
        tokenizer,
        functools.partial(adapted, start, lora, seed),
        rows,
        training,
        seed,
        base=base_under(start, lora, site.out),
        processing_class=tokenizer,
        **settings,
    )


def adapted(start: Start, lora: Any, seed: int, device: str = "cpu", *, dropout: bool = False) -> Any:
    """Returns the model at `start`, with LoRA adapters if `lora` is enabled. dropout=False switches all dropout off.

    If `start` is a folder of adapters (an SFT model under lora.save=adapters), these are loaded and trained further.
    """
    if lora is None or not lora.enabled:
        return load_policy(start.path, start.revision, dropout=dropout, device=device)
    kept = lora.dropout if dropout else 0.0
    if is_adapters(start.path):
        return load_adapted(start.path, dropout=kept, device=device)
    model = load_policy(start.path, start.revision, dropout=dropout, device=device, dtype=DTYPES[lora.base_dtype])
    return add_lora(model, r=lora.r, alpha=lora.alpha, dropout=kept, targets=lora.targets, seed=seed)


def base_under(start: Start, lora: Any, out: Path) -> Base | None:
    """Returns the frozen base of the adapters that will be saved in `out`; None if the whole model will be saved."""
    if lora is None or not lora.enabled or lora.save == "merged":
        return None
    if is_adapters(start.path):
        return base_of(start.path)
    return Base.of(start.path, start.revision, lora.base_dtype, out)


def _fit(
    site: Site,
    kind: Callable[..., Any],
    tokenizer: Any,
    fresh: Callable[..., Any],
    rows: Sequence[Any],
    training: Any,
    seed: int,
    base: Base | None = None,
    eval_dataset: Sequence[Any] | None = None,
    **settings: Any,
) -> Fitted:
    """Trains the model fresh(device=...) with the trainer kind(..., **settings), then saves it with save_trained.

    With rows to evaluate on, training stops early.
    """
    began = time.perf_counter()
    free_memory(site.device)  # of an earlier training
    # Checkpoints do not hold the weights of the best epoch, so a training with early stopping writes none.
    schedule = site.schedule if site.checkpoints is not None and eval_dataset is None else NEVER
    # Processes that share a model's weights must run it equally often: micro_batch_size rows at a time.
    budget = None if site.sharded else site.token_budget
    trainer = kind(
        # a sharded model may be too large for the device
        model=fresh(device="cpu" if site.sharded else site.device),
        args=training_arguments(
            training,
            site.checkpoints if site.checkpoints is not None and schedule else site.out,
            rows=len(rows),
            seed=seed,
            device=site.device,
            token_budget=budget,
        ),
        train_dataset=rows,
        eval_dataset=eval_dataset,
        token_budget=budget,
        callbacks=[Curve(site.log, site.progress)],
        **settings,
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log; ours go to the tracker
    if eval_dataset is not None:
        trainer.add_callback(EarlyStopping(trainer))
    setup = time.perf_counter() - began
    seconds = train(trainer, schedule)
    save_trained(trainer, tokenizer, site.out, fresh=fresh, base=base)
    history = trainer.state.log_history
    curve = [row for row in history if "loss" in row]
    held_out = [row["eval_loss"] for row in history if "eval_loss" in row]
    return Fitted(len(rows), seconds, setup, trainer.state.global_step, curve, held_out)
