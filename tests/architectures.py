"""Tiny random models of decoder families whose attention, positions or logits are unlike Llama's, and the right log-probs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GEMMA = {"head_dim": 8, "sliding_window": 16}
DYNAMIC = {"rope_type": "dynamic", "factor": 8.0}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
# Name -> model type and settings beside SIZE. Windows and original contexts are 16 to 32 tokens.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral": ("mistral", {"sliding_window": 16}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}),
    "gemma2": ("gemma2", GEMMA | {"final_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", GEMMA | {"layer_types": ["sliding_attention", "full_attention"]}),
    "olmo3": ("olmo3", {"sliding_window": 16}),
    "cohere": ("cohere", {"logit_scale": 0.25}),
    "granite": ("granite", {"logits_scaling": 4.0, "attention_multiplier": 0.25}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "dynamic": ("llama", {"max_position_embeddings": 32, "rope_scaling": DYNAMIC}),
    "yarn": ("llama", {"rope_scaling": YARN}),
    "longrope": ("phi3", {"original_max_position_embeddings": 32, "rope_scaling": LONGROPE}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "stablelm": ("stablelm", {}),
}


def architecture(name: str, **settings: Any) -> PreTrainedModel:
    """A model of ARCHITECTURES with weights so wide that its attention matters, dropout off."""
    kind, own = ARCHITECTURES[name]
    config = AutoConfig.for_model(kind, **(SIZE | own | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
    return model


@torch.no_grad()
def right_logp(model: PreTrainedModel, ids: list[int], start: int) -> float:
    """log p of ids[start:] by one plain forward pass, in float32, as by a model that has read nothing before."""
    fresh = AutoModelForCausalLM.from_config(model.config).eval()
    fresh.load_state_dict(model.state_dict())
    logits = fresh.float()(input_ids=torch.tensor([ids])).logits[0].double()
    return sum(torch.log_softmax(logits[t - 1], 0)[ids[t]].item() for t in range(start, len(ids)))
