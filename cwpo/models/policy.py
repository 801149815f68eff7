"""Loading causal language models and tokenizers: safetensors only, float32 unless told otherwise, no remote code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cwpo.errors import InputError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
DROPOUTS = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "layerdrop",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
)


def checkpoint_problem(path: str, key: str) -> str | None:
    """Why `path` cannot be loaded as a checkpoint, or None. Loads nothing; a hub id is asked for its config only."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            return f"{key}={path} is not a checkpoint: it has no config.json; name a folder written by save_pretrained"
        if not any(folder.glob("*.safetensors")):
            pickles = sorted(
                p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
            )
            if pickles:
                return (
                    f"{key}={path} has only pickle weights ({', '.join(pickles[:3])}), which can run code when loaded; "
                    "convert it with model.save_pretrained(folder), which writes safetensors"
                )
            return f"{key}={path} has a config.json but no *.safetensors weights"
        if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
            return f"{key}={path} has no tokenizer; save one there with tokenizer.save_pretrained(folder)"
        return None
    if folder.exists():
        return f"{key}={path} is a file; name the folder of the checkpoint"
    if path.startswith((".", "/", "~")) or not HUB_ID.fullmatch(path):
        return f"{key}={path} does not exist; name a checkpoint folder, or a hub id such as facebook/opt-125m"
    return None


def hub_problem(path: str, revision: str | None, key: str) -> str | None:
    """Why the folder or hub id `path` cannot be used: a broken config; unknown, unreachable or not cached. No weights."""
    local = Path(path).expanduser().is_dir()
    try:
        AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        if local:
            return f"{key}={path} has a config.json that cannot be read as a model's: {reason}"
        return (
            f"{key}={path} is neither a folder here nor a model that the hub or its cache can give: {reason}"
        )
    return None


def load_tokenizer(path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token (EOS where it has none: padding is masked everywhere) and an EOS."""
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {path} has no EOS token, so no response could end; set eos_token in it"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def no_dropout(config: Any) -> dict[str, float]:
    """The config's dropout settings, each set to 0."""
    return {name: 0.0 for name in DROPOUTS if hasattr(config, name)}


def load_policy(
    path: str | Path, revision: str | None = None, *, dropout: bool = False, device: str = "cpu"
) -> PreTrainedModel:
    """A causal LM in float32 (OPT would otherwise come in fp16). dropout=False turns every dropout off."""
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        path,
        revision=revision,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        **({} if dropout else no_dropout(config)),
    )
    return model.to(device)


def context_length(path: str | Path, revision: str | None = None) -> int | None:
    """Longest sequence the model was built for, in tokens, or None where its config does not say."""
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    return getattr(config, "max_position_embeddings", None)


def add_lora(model: PreTrainedModel, *, r: int, alpha: int, dropout: float) -> Any:
    """Low-rank adapters on every linear layer of the blocks; the rest is frozen. Needs the extra `lora`."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
