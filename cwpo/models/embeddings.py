"""Turns texts into vectors: the mean hidden state of a response in a causal LM, or the first token's in an encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from cwpo.data.batching import IGNORED, collate_sequences
from cwpo.data.encoding import Encoded
from cwpo.models.lengths import exact_parts, in_order
from cwpo.models.policy import load_weights, read_tokenizer, readable


@torch.no_grad()
def mean_states(model: PreTrainedModel, rows: Sequence[Encoded], pad_id: int, batch_size: int = 64) -> Tensor:
    """Returns the mean of the last hidden states over each row's response tokens, EOS included; (N, d) for N rows.

    Rows are (token ids, response start), as `cwpo.data.encoding.encode` returns them. The result is float32, on the
    CPU, in the order of the rows; dropout is off.
    """
    model.eval()
    device = next(model.parameters()).device
    means: list[Tensor] = []
    for first in range(0, len(rows), batch_size):
        batch = collate_sequences(rows[first : first + batch_size], pad_id)
        columns = [batch[name].to(device) for name in ("attention_mask", "input_ids", "labels")]
        parts = []
        for numbers, mask, ids, labels in exact_parts(model, *columns):
            states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            response = (labels != IGNORED).float()[:, :, None]
            parts.append((numbers, (states * response).sum(dim=1) / response.sum(dim=1)))
        means.append(in_order(parts).cpu())
    return torch.cat(means)


@torch.no_grad()
def first_states(
    path: str, revision: str | None, texts: Sequence[str], device: str = "cpu", batch_size: int = 64
) -> Tensor:
    """Returns the last hidden state of each text's first token (BERT: [CLS]) in the encoder at `path`: (N, d), float32.

    Texts are cut to the encoder's context.
    """
    tokenizer = read_tokenizer(path, revision)
    tokenizer.padding_side = "right"
    model = load_weights(AutoModel, path, revision, new=("pooler.",), dtype=torch.float32).to(device).eval()
    states, most = [], readable(tokenizer, path, revision)
    for first in range(0, len(texts), batch_size):
        part = list(texts[first : first + batch_size])
        inputs = tokenizer(part, padding=True, truncation=True, max_length=most, return_tensors="pt")
        states.append(model(**inputs.to(device)).last_hidden_state[:, 0].cpu())
    return torch.cat(states)
