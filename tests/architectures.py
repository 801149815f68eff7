"""Tiny random models of decoder families that differ in attention, positions, logits or blocks, and the right log-probs."""

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
WINDOW = {"sliding_window": 16}
HEAD = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SHARED_EXPERT = EXPERTS | {"shared_expert_intermediate_size": 32}
ORIGINAL = {"original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | ORIGINAL
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
DEEPSEEK = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
MAMBA_LAYERS = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "attn_layer_indices": [1]}
JAMBA = {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8}
DELTA = {f"linear_{name}_head_dim": 8 for name in ("key", "value")} | {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "layer_types": ["linear_attention", "full_attention"],
}
# Name: model type, what is special about it, settings beside SIZE. Windows and original contexts are 16 to 32 tokens.
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "grouped-query attention", {}),
    "llama tied": ("llama", "tied head", {"tie_word_embeddings": True}),
    "llama3": ("llama", "Llama 3 RoPE", {"rope_scaling": LLAMA3}),
    "yarn": ("llama", "YaRN RoPE", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0} | ORIGINAL}),
    "dynamic": (
        "llama",
        "dynamic RoPE",
        {"max_position_embeddings": 32, "rope_scaling": {"rope_type": "dynamic", "factor": 8.0}},
    ),
    "longrope": ("phi3", "LongRoPE", ORIGINAL | {"rope_scaling": LONGROPE}),
    "mistral": ("mistral", "window", WINDOW),
    "ministral": ("ministral", "window", WINDOW | HEAD),
    "qwen2": ("qwen2", "window", WINDOW | {"use_sliding_window": True, "max_window_layers": 0}),
    "qwen3": ("qwen3", "normed queries and keys", HEAD),
    "gemma": ("gemma", "scaled embeddings, tied head", HEAD),
    "gemma2": ("gemma2", "window, capped logits", WINDOW | HEAD | {"final_logit_softcapping": 5.0}),
    "gemma3": (
        "gemma3_text",
        "window in some layers",
        WINDOW | HEAD | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "olmo": ("olmo", "norms without weights", {}),
    "olmo2": ("olmo2", "norms behind the layers", {}),
    "olmo3": ("olmo3", "window", WINDOW),
    "cohere": ("cohere", "scaled logits, parallel blocks", {"logit_scale": 0.25}),
    "cohere2": ("cohere2", "window, scaled logits", WINDOW | {"logit_scale": 0.25}),
    "granite": ("granite", "scaled logits", {"logits_scaling": 4.0, "attention_multiplier": 0.25}),
    "phi": ("phi", "parallel blocks, partial RoPE", {}),
    "phi3": ("phi3", "window", WINDOW),
    "starcoder2": ("starcoder2", "window", WINDOW),
    "stablelm": ("stablelm", "partial RoPE", {}),
    "nemotron": ("nemotron", "squared ReLU, partial RoPE", {}),
    "smollm3": ("smollm3", "layers without positions", {}),
    "gpt_neox": ("gpt_neox", "parallel blocks", {}),
    "gptj": ("gptj", "parallel blocks", {"rotary_dim": 8}),
    "codegen": ("codegen", "parallel blocks", {"rotary_dim": 8}),
    "gpt2": ("gpt2", "learned positions", {}),
    "opt": ("opt", "learned positions", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "biogpt": ("biogpt", "learned positions", {}),
    # transformers replaces a table of positions that is outgrown, and with it the rounding of a bfloat16 table: values
    # would depend on what the model read before. So the table is larger than any row.
    "xglm": (
        "xglm",
        "sinusoidal positions",
        {"d_model": 32, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 1024},
    ),
    "gpt_neo": (
        "gpt_neo",
        "learned positions, window",
        {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 16},
    ),
    "gpt_bigcode": ("gpt_bigcode", "multi-query attention", {}),
    "falcon": ("falcon", "multi-query attention", {}),
    "falcon alibi": ("falcon", "ALiBi", {"alibi": True, "parallel_attn": False}),
    "bloom": ("bloom", "ALiBi", {"n_layer": 2, "n_head": 4}),
    "mpt": ("mpt", "ALiBi", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    "mixtral": ("mixtral", "experts", {"num_local_experts": 4}),
    "qwen2_moe": ("qwen2_moe", "experts", SHARED_EXPERT),
    "qwen3_moe": ("qwen3_moe", "experts", EXPERTS | HEAD),
    "olmoe": ("olmoe", "experts", EXPERTS),
    "deepseek_v3": ("deepseek_v3", "experts, latent attention", DEEPSEEK),
    "gpt_oss": (
        "gpt_oss",
        "experts, window, attention sinks",
        WINDOW | HEAD | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_scaling": None},
    ),
    "mamba": ("mamba", "state space", {"state_size": 8}),
    "rwkv": ("rwkv", "recurrent", {}),
    "lfm2": ("lfm2", "convolution and attention", {"layer_types": ["conv", "full_attention"]}),
    "jamba": ("jamba", "state space and attention, experts", JAMBA),
    "bamba": ("bamba", "state space and attention", MAMBA_LAYERS),
    "qwen3_next": ("qwen3_next", "linear attention, experts", SHARED_EXPERT | DELTA | HEAD),
}


def architecture(name: str, **settings: Any) -> PreTrainedModel:
    """A model of ARCHITECTURES with weights so wide that its attention matters, dropout off."""
    kind, _, own = ARCHITECTURES[name]
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
