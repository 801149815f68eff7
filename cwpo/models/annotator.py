"""Computes scores of the weak annotator: a causal LM whose head gives one scalar at the last response token (Eq. 4, 5).

The annotator is an ordinary `AutoModelForSequenceClassification` checkpoint with one label. A row is a tokenised prompt
with its response. The last token is found by the row's length, not by the pad token, so EOS may be the pad token.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from cwpo.data.encoding import Encoded
from cwpo.errors import InputError
from cwpo.models.lengths import exact_parts, in_order, is_wrapped
from cwpo.models.logprobs import score_sequences
from cwpo.models.policy import load_classifier, read_config
from cwpo.runtime import label_precision

PADDING = 128  # padding tokens that cost about as much to compute as one more forward pass
_SEES_NO_PADDING: MutableMapping[PreTrainedModel, bool] = WeakKeyDictionary()


def new_annotator(
    path: str | Path, revision: str | None, *, pad_id: int, head_std: float, seed: int, device: str = "cpu"
) -> PreTrainedModel:
    """Loads the model at `path` in float32 with a new scalar head: weights drawn from N(0, head_std^2) with `seed`."""
    model = _load(path, revision, pad_id, new=("score.",))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator) * head_std)
    return model.to(device)


def load_annotator(path: str | Path, *, pad_id: int, device: str = "cpu") -> PreTrainedModel:
    """Loads a trained annotator in float32 with dropout off."""
    return _load(path, None, pad_id).to(device).eval()


def classifier_problem(path: str | Path, revision: str | None, key: str) -> str | None:
    """Returns why the model at `path` (config key: `key`) cannot get a scalar head, or None. Reads no weights."""
    config = read_config(path, revision, key)
    why = "for which transformers has no sequence classifier"
    if config.model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        with torch.device("meta"):
            if hasattr(AutoModelForSequenceClassification.from_config(config), "score"):
                return None
        why = "whose sequence classifier does not read the last token, as decoders' do"
    return (
        f"{key}={path} is a model of type {config.model_type}, {why}, so it cannot be given a scalar head; choose a model of "
        "another type"
    )


def _load(path: str | Path, revision: str | None, pad_id: int, new: tuple[str, ...] = ()) -> PreTrainedModel:
    if problem := classifier_problem(path, revision, "model"):
        raise InputError(problem)
    settings = {"num_labels": 1, "dtype": torch.float32, "new": new}
    return load_classifier(path, revision, pad_id, AutoModelForSequenceClassification, **settings)


def response_scores(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor | None = None,
    *,
    lean: bool = False,
) -> Tensor:
    """Returns the score of each right-padded row at its last token; (B, T) -> (B,), in logits. `labels` is not used.

    lean=True gives the same values, up to rounding, with less work: only rows of similar length share a forward pass,
    and a model for which sees_no_padding is True gets no mask. For models wrapped by DDP or FSDP it changes nothing.
    """
    parts = exact_parts(model, attention_mask, input_ids)
    if not lean or is_wrapped(model):
        return in_order([(rows, _last_scores(model, ids, mask)) for rows, mask, ids in parts])
    masked = not sees_no_padding(model, input_ids)
    return in_order(
        [
            (rows[some], _last_scores(model, ids[some, :longest], mask[some, :longest], masked=masked))
            for rows, mask, ids in parts
            for some, longest in _of_like_length(mask)
        ]
    )


def _of_like_length(attention_mask: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yields groups of rows, longest first: (row numbers, longest length). A group has up to PADDING padding tokens."""
    ordered, order = attention_mask.sum(dim=1).sort(descending=True, stable=True)
    values, first, padding = ordered.tolist(), 0, 0
    for at, length in enumerate([*values, -PADDING]):  # the last entry closes the last group
        padding += values[first] - length
        if padding > PADDING or at == len(values):
            yield order[first:at].sort().values, values[first]
            first, padding = at, 0


@torch.no_grad()
def sees_no_padding(model: PreTrainedModel, input_ids: Tensor) -> bool:
    """Whether hidden states of tokens stay the same if right padding is not masked. Tried once per model, on 2 rows."""
    if model not in _SEES_NO_PADDING:
        rows = input_ids[:2]
        mask = torch.ones_like(rows)
        mask[:, (rows.shape[1] + 1) // 2 :] = 0
        with_mask, without = (last_states(model, rows, mask, masked) for masked in (True, False))
        _SEES_NO_PADDING[model] = torch.allclose(with_mask, without, rtol=1e-3, atol=1e-3)
    return _SEES_NO_PADDING[model]


def _last_scores(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, masked: bool = True) -> Tensor:
    if not is_wrapped(model):
        return scores_of(model, last_states(model, input_ids, attention_mask, masked))
    # DDP and FSDP synchronise gradients in their own forward pass, and a sharded head has its weights only during it.
    inner, scores = getattr(model, "module", model), list[Tensor]()
    hook = inner.score.register_forward_hook(
        lambda head, given, logits: scores.append(scores_of(inner, _last(given[0], attention_mask)))
    )
    try:
        model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        hook.remove()
    return scores[0]


def scores_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Returns the scalar head's logit of each hidden state, (M, d) -> (M,), computed in float32: a score of 16 bits would
    tie with others."""
    weight, bias = (None if part is None else part.float() for part in (model.score.weight, model.score.bias))
    with torch.autocast(states.device.type, enabled=False):
        return nn.functional.linear(states.float(), weight, bias).squeeze(-1)


def last_states(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, masked: bool = True) -> Tensor:
    """Returns the hidden state of each row's last token, (B, d). `masked`: whether the model gets the attention mask."""
    mask = attention_mask if masked else None
    return _last(model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state, attention_mask)


def _last(states: Tensor, attention_mask: Tensor) -> Tensor:
    last = attention_mask.sum(dim=1) - 1
    return states[torch.arange(len(last), device=last.device), last]


def score_responses(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    pad_id: int,
    batch_size: int | None = None,
    token_budget: int | None = None,
) -> Tensor:
    """Returns the scores of N rows, (N,), in logits, without gradients and dropout. A row is (token ids, index of the
    first response token). `batch_size`, `token_budget`: see scoring_batches. If `token_budget` is given,
    response_scores runs with lean=True."""
    compute = partial(response_scores, lean=token_budget is not None)
    with label_precision(next(model.parameters()).device.type):
        return score_sequences(model, rows, pad_id, batch_size, token_budget, compute)
