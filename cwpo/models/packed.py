"""Computes exact log-probs of pairs' responses: with shared prompts, in padded batches, or one length at a time."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cwpo.data.batching import PairCollator, collate_sequences
from cwpo.data.packing import pack_pairs
from cwpo.errors import InputError
from cwpo.models.heads import Head, head_of, without_adapters
from cwpo.models.lengths import forget_lengths
from cwpo.models.logprobs import (
    Logps,
    in_lines,
    lean_logps,
    logps_by_length,
    packed_logps,
    response_logits,
    response_logps,
    score_sequences,
    scoring_batches,
)
from cwpo.models.memory import in_batches
from cwpo.models.row_attention import NARROW
from cwpo.models.side_by_side import threads_of
from cwpo.runtime import float32_products

LINE = 2.0  # as `full` of pack_pairs it makes one line of tokens: a model that can read a line can read rows too
TOLERANCE = 5e-4  # nats per square root of the number of tokens: float32 rounding errors add up like a random walk
ROUGH = 0.1  # TOLERANCE for quantised weights, which compute in 16 bits
AHEAD = 0.01  # nats: by rounding, the log-prob of a token may change by less with the tokens that follow
FAILURES = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Layout:
    """A way to compute log-probs of pairs. It is exact if its results equal those of each sequence alone.

    packed: both responses share one prompt, and pairs lie side by side (cwpo.data.packing). by_length: all sequences
    of a forward pass have one length. head: the map from hidden states to logits, run on response tokens only; None:
    the model's own forward pass computes all logits.
    """

    packed: bool = False
    by_length: bool = False
    head: Head | None = None

    @property
    def plain(self) -> Logps:
        """A function like response_logps that computes in this layout, for batches that are not packed."""
        compute = response_logps if self.head is None else functools.partial(lean_logps, head=self.head)
        return functools.partial(logps_by_length, compute=compute) if self.by_length else compute

    def pair_logps(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Returns log-probs of chosen, then rejected responses of PairCollator's batch, packed or not: (2 B,), nats."""
        if "packed_ids" in batch:
            return packed_logps(model, batch, self.head)
        return self.plain(model, batch["input_ids"], batch["attention_mask"], batch["labels"])


@torch.no_grad()
def exact_layout(model: nn.Module, pairs: Sequence[Mapping[str, Any]], pad_id: int, *, whole: bool = False) -> Layout:
    """Returns the fastest layout in which the model's log-probs of `pairs`, rows of encode_pairs, are exact.

    Each layout is tried on one batch, the three pairs of `extremes`; its log-probs must equal those of each sequence
    alone. Some layouts change the values of models with attention windows, RoPE that depends on the longest row, ALiBi,
    or capped or scaled logits. All is computed in float32, because rounding in 16 bits would hide such changes; 16-bit
    weights are widened for the trial and narrowed again without loss. `whole`: tries only layouts that call the model's
    own forward pass, LM head included, as models wrapped by DDP or FSDP need. Raises InputError if the model attends to
    later tokens.
    """
    sample = extremes(pairs, len(without_adapters(model).get_input_embeddings().weight))
    with probing(model):
        refuse_look_ahead(model, *sample[:2])
        right = _one_at_a_time(model, sample)
        head = None if whole else head_of(model)
        layouts = [Layout(packed=True, head=head)] if not whole and share_prompts(pairs) else []
        layouts += [] if whole else [Layout(head=head), Layout(by_length=True, head=head)]
        layouts += [Layout()]
        return next((layout for layout in layouts if _agrees(model, sample, layout, pad_id, right)), LAST)


def refuse_look_ahead(model: nn.Module, pair: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises InputError if the first token of a response gets another probability when the whole response changes: the
    model attends to later tokens. The chosen responses of `pair` and `other` follow one prompt and are equally long."""
    if pair["chosen_start"] == 0:  # then nothing comes before the response
        return
    device = next(model.parameters()).device
    rows = [(each["chosen_ids"], each["chosen_start"]) for each in (pair, other)]
    batches = [tensors(collate_sequences([row], 0), device) for row in rows]
    first, changed = (response_logits(model, **batch)[1][:, :1].float().log_softmax(-1) for batch in batches)
    likely = first.exp() > 1 / first.shape[-1]  # improbable tokens have large log-probs, hence large rounding errors
    tolerance = ROUGH if getattr(model, "is_quantized", False) else AHEAD
    if ((first - changed)[likely].abs() > tolerance).any():
        name = type(without_adapters(model)).__name__
        raise InputError(
            f"the model, a {name}, gives a token another probability when later tokens change, so it is not a causal language model; "
            "use one, such as OPT, Llama or Qwen"
        )


LAST = Layout(by_length=True)  # the layout if no other agrees: it computes as _one_at_a_time does


def _agrees(model: nn.Module, sample: Sequence[Mapping[str, Any]], layout: Layout, pad_id: int, right: Tensor) -> bool:
    packed = pack_pairs(sample, full=LINE) if layout.packed else PairCollator(pad_id)(sample)
    batch = tensors(packed, right.device)
    try:
        logps = layout.pair_logps(model, batch)
    except FAILURES:
        return False
    tokens = torch.tensor([len(ids) - start for ids, start in sequences_of(sample)], device=right.device)
    tolerance = ROUGH if getattr(model, "is_quantized", False) else TOLERANCE
    near = (logps - right).abs() <= tolerance * tokens.sqrt()
    return bool((near | right.isnan()).all())  # a broken model gives NaN in every layout: training reports it


def _one_at_a_time(model: nn.Module, sample: Sequence[Mapping[str, Any]]) -> Tensor:
    """Returns response_logps of each sequence alone, (2 B,): chosen, then rejected. Runs the shortest one first."""
    rows = sequences_of(sample)
    device = next(model.parameters()).device
    logps = torch.empty(len(rows), device=device)
    forget_lengths(model)
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i][0])):
        logps[index] = response_logps(model, **tensors(collate_sequences([rows[index]], 0), device))[0]
    return logps


def sequences_of(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], int]]:
    """Returns (token ids, index of the first response token) of all chosen, then of all rejected sequences."""
    return [(pair[f"{side}_ids"], pair[f"{side}_start"]) for side in ("chosen", "rejected") for pair in pairs]


def tensors(batch: Mapping[str, Any], device: Any) -> dict[str, Tensor]:
    """Returns the batch's tensors, moved to `device`, and its ints; drops everything else, such as pair_id."""
    kept = {name: value for name, value in batch.items() if isinstance(value, Tensor | int)}
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in kept.items()}


def extremes(pairs: Sequence[Mapping[str, Any]], vocabulary: int) -> list[Mapping[str, Any]]:
    """Returns the pair with the longest sequence, a copy of it, and the pair with the shortest sequence. In the copy,
    each token id of the chosen response is raised by 1, modulo `vocabulary`, the number of ids."""
    longest = max(pairs, key=lambda pair: max(len(pair["chosen_ids"]), len(pair["rejected_ids"])))
    shortest = min(pairs, key=lambda pair: min(len(pair["chosen_ids"]), len(pair["rejected_ids"])))
    start = longest["chosen_start"]
    other = [(token + 1) % vocabulary for token in longest["chosen_ids"][start:]]
    return [longest, {**longest, "chosen_ids": longest["chosen_ids"][:start] + other}, shortest]


def share_prompts(pairs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the two sequences of each pair begin with the same prompt, which has at least one token."""
    return all(
        0 < pair["chosen_start"] == pair["rejected_start"]
        and pair["chosen_ids"][: pair["chosen_start"]] == pair["rejected_ids"][: pair["rejected_start"]]
        for pair in pairs
    )


@contextmanager
def probing(model: nn.Module) -> Iterator[None]:
    """Inside the block, dropout, autocast, TF32 and accelerate's wrapper of forward are off; 16-bit weights are float32."""
    training = model.training
    wrapper = vars(model).pop("forward", None) if hasattr(model, "_original_forward") else None
    model.eval()
    try:
        autocast_off = torch.autocast(next(model.parameters()).device.type, enabled=False)
        with _widened(model), autocast_off, float32_products(exact=True):
            yield
    finally:
        if wrapper is not None:
            model.forward = wrapper
        model.train(training)


@contextmanager
def _widened(model: nn.Module) -> Iterator[None]:
    """Widens 16-bit weights to float32 inside the block. To save memory, a layer's are float32 only while it runs."""
    dtypes = {p: p.dtype for p in model.parameters() if p.dtype in NARROW}
    blocks = [block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part]
    in_blocks = {p for block in blocks for p in block.parameters()}

    def widen(module: nn.Module, *_: Any) -> None:
        for parameter in module.parameters():
            parameter.data = parameter.data.float() if parameter in dtypes else parameter.data

    def narrow(module: nn.Module, *_: Any) -> None:
        for parameter in module.parameters():
            parameter.data = parameter.data.to(dtypes.get(parameter, parameter.dtype))

    hooks = [block.register_forward_pre_hook(widen) for block in blocks if dtypes]
    hooks += [block.register_forward_hook(narrow, always_call=True) for block in blocks if dtypes]
    try:
        for parameter in dtypes.keys() - in_blocks:
            parameter.data = parameter.data.float()
        yield
    finally:
        for hook in hooks:
            hook.remove()
        narrow(model)


def score_pairs(
    model: nn.Module,
    pairs: Sequence[Mapping[str, Any]],
    pad_id: int,
    token_budget: int | None = None,
    layout: Layout | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns log-probs of the chosen and of the rejected responses of N pairs, rows of encode_pairs: each (N,), in nats.
    Dropout is off. layout=None means exact_layout of the pairs."""
    layout = layout or exact_layout(model, pairs, pad_id)
    if layout.packed:
        collator = PairCollator(pad_id, packed=True, lines=in_lines(model))
        return score_packed(model, pairs, collator, layout.pair_logps, token_budget)
    score = functools.partial(score_sequences, token_budget=token_budget, compute=layout.plain)
    return score_sides(pairs, lambda rows: score(model, rows, pad_id))


def score_sides(pairs: Sequence[Mapping[str, Any]], score: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Returns score(rows) of the chosen and of the rejected sequences of N pairs: each (N,)."""
    rows = sequences_of(pairs)
    return score(rows[: len(pairs)]), score(rows[len(pairs) :])


@torch.no_grad()
def score_packed(
    model: nn.Module,
    pairs: Sequence[Mapping[str, Any]],
    collator: PairCollator,
    compute: Callable[..., Tensor],
    token_budget: int | None,
) -> tuple[Tensor, Tensor]:
    """Returns what compute(model, batch) returns, (2 B,) for B packed pairs, for the chosen and for the rejected
    sequences of all N pairs: each (N,), float32. Dropout is off."""
    model.eval()
    device = next(model.parameters()).device
    scores = torch.empty(2, len(pairs))

    def score(part: list[int]) -> Tensor:
        return compute(model, tensors(collator([pairs[i] for i in part]), device)).view(2, -1).cpu()

    batches = scoring_batches([collator.tokens(pair) for pair in pairs], token_budget=token_budget)
    for part, values in in_batches(batches, score, threads_of(model)):
        scores[:, part] = values
    return scores[0], scores[1]
