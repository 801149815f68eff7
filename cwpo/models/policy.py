"""Loads causal language models and tokenizers: only safetensors, float32 by default, no remote code."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cwpo.config.hub import asked_once, reach
from cwpo.data.chat import CHAT, chat_problem
from cwpo.errors import InputError, first_line
from cwpo.models.adapters import base_of, is_adapters, read_note
from cwpo.models.folders import TENSORS, hub_weights_problem, strange_shards
from cwpo.models.heads import without_adapters
from cwpo.models.limits import causal_problem, context, vocabulary
from cwpo.models.mending import dropout_names, mend_generation_config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@asked_once
def hub_problem(path: str, revision: str | None, key: str) -> str | None:
    """Returns why `path` (config key: `key`), a folder or hub id, cannot be used; None if it can. Reads no weights."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # hides five lines about retries without a network
    try:
        read_config(path, revision, key)
        if is_adapters(path):
            base = base_of(path)
            return hub_problem(base.found_from(Path(path)), base.revision, key)
    except InputError as error:
        return str(error)
    missing = None if Path(path).expanduser().is_dir() else hub_weights_problem(path, revision, key)
    return missing or vocabulary_problem(path, revision, key)


def policy_problem(path: str | Path, revision: str | None, key: str) -> str | None:
    """Returns why the model at `path` (config key: `key`) is no causal LM, or None if it is one. Reads no weights."""
    problem = causal_problem(read_config(path, revision, key))
    return problem and f"{key}={path} {problem}"


STATED = 10**9  # tokens; a tokenizer whose model_max_length is larger sets no limit


def vocabulary_problem(path: str, revision: str | None, key: str) -> str | None:
    """Returns a message if the tokenizer has tokens that the model lacks; None if not, or if there is no tokenizer."""
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


@asked_once
def read_config(path: str | Path, revision: str | None = None, key: str = "model") -> Any:
    """Returns the config of the model at `path` (config key: `key`). Raises InputError if it cannot be read or asks for
    Python code from the checkpoint or the hub."""
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


def load_weights(
    kind: Any, path: str | Path, revision: str | None, *, new: tuple[str, ...] = (), **settings: Any
) -> PreTrainedModel:
    """Calls from_pretrained of the Auto class `kind`: only safetensors, no remote code. InputError if that fails.

    Also raises InputError if the checkpoint lacks a weight or has it in another shape: transformers would draw this
    weight at random. It may do so only if the weight's name begins with one of `new`. Keeps transformers from asking
    the hub to convert pickle weights in the background.
    """
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    reach(path)
    if strange := strange_shards(Path(path).expanduser()):
        raise InputError(f"the weights of {path} cannot be loaded: {strange}")
    try:
        settings |= {"revision": revision, "use_safetensors": True, "ignore_mismatched_sizes": True}
        model, report = kind.from_pretrained(path, trust_remote_code=False, output_loading_info=True, **settings)
    except (OSError, ValueError, ImportError, KeyError, SafetensorError, UnpicklingError) as error:
        here = Path(path).expanduser().exists()
        problem = None if here else hub_weights_problem(str(path), revision, "model")
        raise InputError(problem or f"the weights of {path} cannot be loaded: {first_line(error)}") from error
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    drawn = sorted(name for name in absent if not name.startswith(new))
    if drawn:
        raise InputError(
            f"{path} lacks {len(drawn)} weights of a {type(model).__name__}, or has them in another shape than its config.json says, "
            f"such as {drawn[0]}; name a checkpoint that was saved from such a model, or copy this one again"
        )
    return model


def read_tokenizer(path: str | Path, revision: str | None = None) -> Any:
    """Returns the tokenizer as it was saved. Raises InputError if it cannot be read or needs remote code."""
    reach(path)
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
    """Loads the tokenizer. A missing pad token becomes EOS (padding is masked everywhere). InputError without EOS.

    chat=True: its chat template formats prompts from now on; InputError if the template is missing or its turns do not
    end in EOS. chat=False: the template formats no prompt. The choice is saved with the tokenizer. chat=None keeps the
    choice that was saved; see `reads_chat`.
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
    """Returns {name: 0.0} for each dropout setting of the config."""
    return dict.fromkeys(dropout_names(config), 0.0)


def load_classifier(path: str | Path, revision: str | None, pad_id: int | None, kind: Any, **settings: Any) -> Any:
    """Calls load_weights with dropout off and the pad token `pad_id`, by which the model finds the end of a row."""
    config = read_config(path, revision)
    if hasattr(config, "pad_token_id"):  # as in all configs but those of models that read images too
        settings["pad_token_id"] = pad_id
    model = load_weights(kind, path, revision, **(settings | no_dropout(config)))
    model.config.get_text_config().pad_token_id = pad_id
    return model


def load_policy(
    path: str | Path,
    revision: str | None = None,
    *,
    dropout: bool = False,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Loads a causal LM in `dtype` so that save_pretrained can save it again. dropout=False turns every dropout off.

    float32 is the default even if weights were saved in 16 bits (OPT: float16). bfloat16 is for frozen weights;
    InputError if one becomes infinite in it. If `path` holds adapters trained by cwpo (cwpo.models.adapters), it
    merges them into their base and returns float32, whatever `dtype` is.
    """
    if is_adapters(path):
        return load_adapted(path, device=device).float().merge_and_unload()
    if problem := policy_problem(path, revision, "model"):
        raise InputError(problem)
    settings: dict[str, Any] = {} if dropout else no_dropout(read_config(path, revision))
    model: Any = load_weights(AutoModelForCausalLM, path, revision, dtype=dtype, **settings)
    beyond = [name for name, p in model.named_parameters() if dtype != torch.float32 and not p.isfinite().all()]
    if beyond:
        raise InputError(
            f"the weights {beyond[0]} of {path} become infinite or NaN in {dtype}; use lora.base_dtype=float32"
        )
    mend_generation_config(model)
    return model.to(device)


def context_length(path: str | Path, revision: str | None = None) -> int | None:
    """Returns the longest sequence the model can read, in tokens, or None if its config sets no limit."""
    return context(read_config(path, revision))


def readable(tokenizer: Any, path: str | Path, revision: str | None = None) -> int | None:
    """Returns the smaller of context_length and the tokenizer's model_max_length, in tokens; None if neither is set."""
    length, most = context_length(path, revision), tokenizer.model_max_length
    return length if most > STATED else most if length is None else min(length, most)


def add_lora(
    model: PreTrainedModel,
    *,
    r: int,
    alpha: int,
    dropout: float,
    targets: str | list[str] = "all-linear",
    seed: int = 0,
) -> Any:
    """Adds LoRA adapters, initialised from `seed`, and freezes all other weights. Needs cwpo[lora].

    By default adapters lie on every linear layer of the blocks; with targets="peft", on the layers PEFT chooses for the
    architecture (query and value projections of OPT, Qwen2 and Llama); with a list, on the layers that it names.
    The adapters are float32, whatever the model's dtype is. Raises InputError if PEFT cannot add them.
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


def load_adapted(folder: str | Path, *, dropout: float = 0.0, device: str = "cpu") -> Any:
    """Loads base and adapters as a PEFT model that can be trained: base in the dtype of base.json, adapters float32."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    folder = Path(folder).expanduser()
    note, base = read_note(folder), base_of(folder)
    under = load_policy(base.found_from(folder), base.revision, device=device, dtype=DTYPES[base.dtype])
    model = add_lora(under, dropout=dropout, **note["lora"])
    expected = {name for name, p in model.named_parameters() if p.requires_grad}
    tensors = load_file(folder / TENSORS)
    wrong = set_peft_model_state_dict(model, tensors)
    if wrong.unexpected_keys or len(tensors) != len(expected):
        raise InputError(
            f"the adapters in {folder} do not fit {base.path}, the base model in their base.json; "
            "write the model on which they were trained into base.json"
        )
    return model


def as_trained(folder: str | Path, *, device: str = "cpu") -> Any:
    """Loads a checkpoint in float32. Adapters stay unmerged, on their base in the dtype that base.json names."""
    if not is_adapters(folder):
        return load_policy(folder, device=device)
    return without_adapters(load_adapted(folder, device=device)).eval()


def export(adapters: Path, folder: Path, dtype: str) -> None:
    """Merges adapters into their base in float32 and saves the model in `dtype` ("base": the base's) to `folder`."""
    kept = base_of(adapters).dtype if dtype == "base" else dtype
    load_policy(adapters).to(DTYPES[kept]).save_pretrained(folder)
    load_tokenizer(adapters).save_pretrained(folder)
