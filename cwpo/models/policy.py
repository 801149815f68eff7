"""Loading causal language models and tokenizers: safetensors only, float32 unless told otherwise, no remote code."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cwpo.data.chat import CHAT, chat_problem
from cwpo.errors import InputError, first_line
from cwpo.models.folders import ADAPTER, hub_weights_problem, strange_shards
from cwpo.models.limits import context, vocabulary
from cwpo.models.mending import dropout_names, mend_generation_config


def hub_problem(path: str, revision: str | None, key: str) -> str | None:
    """Why the folder or hub id `path` cannot be used: a broken config, a tokenizer of another model, or not to be had. No weights."""
    from huggingface_hub.utils import logging
    from transformers.utils.peft_utils import find_adapter_config_file

    logging.set_verbosity_error()  # five lines about retries where there is no network
    try:
        read_config(path, revision, key)
        adapter = find_adapter_config_file(path, revision=revision)
    except InputError as error:
        return str(error)
    except (OSError, ValueError):
        adapter = None
    if adapter:
        return f"{key}={path} holds a LoRA adapter ({ADAPTER}); merge it and save the whole model"
    missing = None if Path(path).expanduser().is_dir() else hub_weights_problem(path, revision, key)
    return missing or vocabulary_problem(path, revision, key)


def vocabulary_problem(path: str, revision: str | None, key: str) -> str | None:
    """Whether the tokenizer can give tokens that the model does not have; None also where it has no tokenizer."""
    try:
        tokens = len(read_tokenizer(path, revision))
    except InputError:
        return None
    most = vocabulary(read_config(path, revision, key))
    if most is None or tokens <= most:
        return None
    return (
        f"{key}={path}: its tokenizer has {tokens} tokens, the model's vocabulary only {most}; they do not belong together: save "
        "the model's own tokenizer there, or the model after resize_token_embeddings"
    )


def read_config(path: str | Path, revision: str | None = None, key: str = "model") -> Any:
    """The config of the checkpoint at `path`, the value of `key`. InputError where there is none, or where it asks for code."""
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # a broken config.json raises nearly anything
        reason = first_line(error)
        if "custom code" in reason or "trust_remote_code" in str(error):
            raise InputError(
                f"{key}={path} is a model with Python code of its own (auto_map in its config.json), which is never run here; "
                "use a model whose architecture transformers has"
            ) from error
        here = Path(path).expanduser().is_dir()
        what = "has a config.json that cannot be read as a model's"
        what = what if here else "is neither a folder here nor a model that the hub or its cache can give"
        raise InputError(f"{key}={path} {what}: {reason}") from error
    attention = str(getattr(config, "_attn_implementation", None))
    if "/" in attention:
        raise InputError(
            f"{key}={path} asks for the attention kernel {attention}, code from the hub, which is never run here; remove "
            "attn_implementation from its config.json"
        )
    return config


def load_weights(kind: Any, path: str | Path, revision: str | None, **settings: Any) -> PreTrainedModel:
    """`kind`.from_pretrained with safetensors only and no remote code; InputError for weights that cannot be read.

    transformers is kept from asking the hub to convert pickle weights in the background.
    """
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    if strange := strange_shards(Path(path).expanduser()):
        raise InputError(f"the weights of {path} cannot be loaded: {strange}")
    try:
        settings |= {"revision": revision, "use_safetensors": True}
        return kind.from_pretrained(path, trust_remote_code=False, **settings)
    except (OSError, ValueError, ImportError, KeyError, SafetensorError, UnpicklingError) as error:
        here = Path(path).expanduser().exists()
        problem = None if here else hub_weights_problem(str(path), revision, "model")
        raise InputError(problem or f"the weights of {path} cannot be loaded: {first_line(error)}") from error


def read_tokenizer(path: str | Path, revision: str | None = None) -> Any:
    """The tokenizer as it is saved; InputError where it cannot be read or has code of its own."""
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason = first_line(error)
        if "custom code" in reason or "trust_remote_code" in str(error):
            reason = "it has Python code of its own, which is never run here"
        raise InputError(f"the tokenizer of {path} cannot be loaded: {reason}") from error


def load_tokenizer(
    path: str | Path, revision: str | None = None, *, chat: bool | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token (EOS where it has none: padding is masked everywhere) and an EOS.

    chat=True: prompts go through its chat template from now on, also when it is saved and loaded again. InputError where it
    has none, or one whose turns do not end in EOS. chat=False: no prompt does. None: as it was saved; see `reads_chat`.
    """
    tokenizer = read_tokenizer(path, revision)
    if tokenizer.eos_token_id is None:
        fix = "so no response could end; set eos_token in it"
        raise InputError(f"the tokenizer of {path} has no EOS token, {fix}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat and (problem := chat_problem(tokenizer)):
        raise InputError(
            f"the tokenizer of {path} {problem}; have prompts read as plain text with pair.strong_chat=false (own pairs: "
            "chat=false)"
        )
    if chat is not None and tokenizer.chat_template:
        tokenizer.init_kwargs[CHAT] = chat
    return tokenizer


def no_dropout(config: Any) -> dict[str, float]:
    """The config's dropout settings, each set to 0."""
    return dict.fromkeys(dropout_names(config), 0.0)


def load_policy(
    path: str | Path, revision: str | None = None, *, dropout: bool = False, device: str = "cpu"
) -> PreTrainedModel:
    """A causal LM in float32 (OPT would otherwise come in fp16), which can be saved. dropout=False turns every dropout off."""
    settings = {} if dropout else no_dropout(read_config(path, revision))
    model: Any = load_weights(AutoModelForCausalLM, path, revision, dtype=torch.float32, **settings)
    mend_generation_config(model)
    return model.to(device)


def context_length(path: str | Path, revision: str | None = None) -> int | None:
    """Longest sequence the model can read, in tokens, or None where its config sets no limit."""
    return context(read_config(path, revision))


def add_lora(
    model: PreTrainedModel, *, r: int, alpha: int, dropout: float, targets: str = "all-linear", seed: int = 0
) -> Any:
    """Low-rank adapters drawn from `seed`; the rest is frozen. Needs the extra `lora`.

    They lie on every linear layer of the blocks, or with targets="peft" on those that PEFT chooses for the architecture:
    the query and value projections of OPT, Qwen2 and Llama. Raises InputError where PEFT has no choice.
    """
    from peft import LoraConfig, get_peft_model

    where = {"target_modules": None if targets == "peft" else targets, "task_type": "CAUSAL_LM"}
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, **where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            kind, reason = model.config.model_type, first_line(error)
            other = "lora.enabled=false" if targets == "all-linear" else "lora.targets=all-linear"
            raise InputError(
                f"lora.targets={targets}: PEFT cannot put adapters on a model of type {kind} ({reason}); use {other}"
            ) from error
