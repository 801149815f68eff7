"""The weak annotator: a causal LM with its LM head replaced by one scalar on the last response token (Eq. 4, 5).

It is an ordinary `AutoModelForSequenceClassification` checkpoint with one label. The score is read at each row's last
token by its length, not by the pad token, so a tokenizer that pads with EOS is scored correctly too.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from cwpo.errors import InputError
from cwpo.models.lengths import exact_parts, in_order
from cwpo.models.logprobs import score_sequences
from cwpo.models.policy import load_weights, no_dropout, read_config
from cwpo.runtime import label_precision


def new_annotator(
    path: str | Path, revision: str | None, *, pad_id: int, head_std: float, seed: int, device: str = "cpu"
) -> PreTrainedModel:
    """The backbone at `path` in float32 with a fresh scalar head, normal with standard deviation `head_std`."""
    model = _load(path, revision, pad_id)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator) * head_std)
    return model.to(device)


def load_annotator(path: str | Path, *, pad_id: int, device: str = "cpu") -> PreTrainedModel:
    """A trained annotator, dropout off."""
    return _load(path, None, pad_id).to(device).eval()


def classifier_problem(path: str | Path, revision: str | None, key: str) -> str | None:
    """Why the model at `path`, the value of the setting `key`, cannot get a scalar head, or None. Reads its config only."""
    kind = read_config(path, revision, key).model_type
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return None
    return (
        f"{key}={path} is a model of type {kind}, for which transformers has no sequence classifier, so it cannot be given a "
        "scalar head; choose a model of another type"
    )


def _load(path: str | Path, revision: str | None, pad_id: int) -> PreTrainedModel:
    if problem := classifier_problem(path, revision, "model"):
        raise InputError(problem)
    settings = {"num_labels": 1, "pad_token_id": pad_id, "dtype": torch.float32}
    settings |= no_dropout(read_config(path, revision))
    return load_weights(AutoModelForSequenceClassification, path, revision, **settings)


def response_scores(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Score of each right-padded row, read at its last token; (B, T) -> (B,), in logits. Labels are not looked at."""
    parts = exact_parts(model, attention_mask, input_ids)
    return in_order([(rows, _last_scores(model, ids, mask)) for rows, mask, ids in parts])


def _last_scores(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    inner = model.module if hasattr(model, "module") else model
    states: list[Tensor] = []
    sharded = hasattr(inner, "reshard")  # FSDP: the head has its weights inside the forward pass only
    hook = (inner.score if sharded else inner.base_model).register_forward_hook(
        lambda module, args, output: states.append(output if sharded else output.last_hidden_state)
    )
    try:
        # Through the model itself, not its backbone: the wrapper of several processes syncs gradients in its forward.
        model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        hook.remove()
    last = attention_mask.sum(dim=1) - 1
    read = states[0][torch.arange(len(last), device=last.device), last]
    if sharded:
        return read.squeeze(-1).float()
    with torch.autocast(read.device.type, enabled=False):  # confidences are small differences of scores
        return inner.score(read.to(inner.score.weight.dtype)).squeeze(-1).float()


def score_responses(
    model: PreTrainedModel,
    rows: Sequence[tuple[Sequence[int], int]],
    pad_id: int,
    batch_size: int | None = None,
    token_budget: int | None = None,
) -> Tensor:
    """response_scores of (ids, start) rows without gradients, in the given order, dropout off; shape (N,)."""
    with label_precision(next(model.parameters()).device.type):
        return score_sequences(model, rows, pad_id, batch_size, token_budget, compute=response_scores)
