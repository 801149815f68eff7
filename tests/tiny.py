"""Tiny random models and a word-level tokenizer: every architecture in milliseconds, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from cwpo.config.schema import TrainingConfig
from cwpo.models.toy import toy_config
from cwpo.training.arguments import training_arguments

WORDS = ["ask", "tell", "me", "about", "bread", "bridges", "is", "good", "bad", "very", "warm", "cold"]
VOCABULARY = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
PAD, BOS, EOS = 0, 1, 2
FAMILIES = ("opt", "qwen2", "llama")


def tiny_tokenizer(template: str = "<s> $A", pad: str = "<pad>") -> PreTrainedTokenizerFast:
    """One token per word of WORDS; `template` says which special tokens it puts around a text by itself."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_model(
    family: str = "opt", *, seed: int = 0, labels: int | None = None, spread: float = 10.0, **settings: Any
) -> PreTrainedModel:
    """A random causal LM, or a classifier with `labels` outputs; `spread` widens its weights so that outputs differ."""
    config = toy_config(f"{family}-16x1", tiny_tokenizer())
    for name, value in settings.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if labels is None:
            model = AutoModelForCausalLM.from_config(config)
        else:
            config.num_labels = labels
            model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model.eval()


def tiny_encoder(kind: Any, **settings: Any) -> PreTrainedModel:
    """A random BERT with 32 positions, of the class `kind`."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    size |= {"vocab_size": len(VOCABULARY), "max_position_embeddings": 32, "pad_token_id": PAD}
    config = BertConfig(**size, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def save(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    tokenizer = tokenizer or tiny_tokenizer()
    if model.config.model_type == "qwen2":
        tokenizer.init_kwargs["auto_map"] = []  # else transformers 5 loads another class of tokenizer
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def arguments(output: Path, *, rows: int, seed: int = 0, **settings: Any) -> Any:
    """TrainingArguments: plain SGD, constant learning rate, no clipping, one epoch in one batch unless told otherwise."""
    plain = {"epochs": 1, "learning_rate": 0.1, "batch_size": rows, "scheduler": "constant"}
    config = TrainingConfig(**(plain | {"optimizer": "sgd", "max_grad_norm": 1e9} | settings))
    return training_arguments(config, output, rows=rows, seed=seed, device="cpu")


def parameters(model: torch.nn.Module) -> torch.Tensor:
    """All parameters as one vector, copied."""
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


__all__ = [
    "BOS",
    "EOS",
    "FAMILIES",
    "PAD",
    "arguments",
    "parameters",
    "save",
    "tiny_encoder",
    "tiny_model",
    "tiny_tokenizer",
]
