"""An encoder's first state stands for a response, whatever else is in the batch."""

import pytest
import torch
from tiny import save, tiny_encoder, tiny_tokenizer
from transformers import AutoModel, BertModel

from cwpo.models.embeddings import first_states

TEXTS = ["bread is good", "tell me", "about very warm bridges", "bread " * 60]


@pytest.mark.parametrize("side", ["right", "left"])
def test_first_states_are_those_of_a_batch_of_one_cut_to_the_context(tmp_path, side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side
    folder = save(tiny_encoder(BertModel, initializer_range=0.5), tmp_path / "bert", tokenizer)
    states = first_states(str(folder), None, TEXTS, batch_size=3)
    model = AutoModel.from_pretrained(folder).eval()
    for text, state in zip(TEXTS, states):
        ids = torch.tensor([tokenizer(text)["input_ids"][:32]])
        torch.testing.assert_close(state, model(input_ids=ids).last_hidden_state[0, 0], rtol=1e-4, atol=1e-5)
    assert states.shape == (4, 16) and not torch.allclose(states[0], states[1], atol=1e-2)
