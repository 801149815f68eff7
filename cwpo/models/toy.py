"""Tiny language models of the synthetic world: real architectures, pretrained here from scratch."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig, PreTrainedModel, Qwen2Config
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers import get_cosine_schedule_with_warmup as cosine_schedule

from cwpo.config.families import HEAD_SIZE
from cwpo.data.batching import IGNORED, pad
from cwpo.data.toy import build_tokenizer, pretraining_texts
from cwpo.models.row_attention import attend_in_rows
from cwpo.runtime import NATIVE, computing_in

MAX_POSITIONS = 64


def toy_config(name: str, tokenizer: Tokenizer) -> OPTConfig | Qwen2Config | LlamaConfig:
    """Returns the configuration of the model "<family>-<hidden size>x<layers>", e.g. "opt-32x1".

    The family is opt, qwen2 or llama. The model has attention heads of size 16, tied embeddings and no dropout.
    Feed-forward blocks are 4 times as wide as the hidden size for OPT, about 8/3 times for Qwen2 and Llama.
    """
    family, _, size = name.partition("-")
    hidden, layers = map(int, size.split("x"))
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD_SIZE,
        "max_position_embeddings": MAX_POSITIONS,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        **{name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
    }
    if family == "opt":
        off = {"dropout": 0.0, "activation_dropout": 0.0}
        wide = {"ffn_dim": 4 * hidden, "word_embed_proj_dim": hidden, "do_layer_norm_before": True}
        return OPTConfig(**shared, **wide, **off)
    gated = {"intermediate_size": -(-hidden * 8 // 24) * 8, "num_key_value_heads": hidden // HEAD_SIZE}
    return (Qwen2Config if family == "qwen2" else LlamaConfig)(**shared, **gated)


def toy_tokenizer(name: str) -> Tokenizer:
    """Builds the synthetic world's tokenizer so that AutoTokenizer can load it from the folder of the model `name`.

    transformers 5 loads the tokenizer of any "qwen2" folder as Qwen2Tokenizer, whatever class the folder names, unless
    the folder has an `auto_map`. So Qwen2 folders get an empty one, and AutoTokenizer loads the class that they name.
    """
    tokenizer = build_tokenizer()
    if name.startswith("qwen2"):
        tokenizer.init_kwargs["auto_map"] = []
    return tokenizer


def pretrain(
    name: str,
    *,
    sequences: int = 200_000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[PreTrainedModel, Tokenizer]:
    """Trains the model `name` of `toy_config` for one epoch of next-token prediction on `sequences` synthetic texts.

    Uses AdamW on float32 weights, a cosine schedule with 2 % warm-up, and the loss of all tokens but padding. Matrix
    products are in bfloat16 if the CPU multiplies it in hardware, else in float32. The same name, seed, kind of CPU and
    number of torch threads give the same weights. The global random state stays the same. Calls
    `progress(step, steps, loss)` every 100 steps and after the last.
    """
    tokenizer = toy_tokenizer(name)
    config = toy_config(name, tokenizer)
    table, lengths = _token_table(sequences, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float()
        _fit(model, table, lengths, batch_size, learning_rate, progress)
    return model.eval(), tokenizer


@functools.lru_cache(maxsize=1)  # a worker pretrains several models on the same texts
def _token_table(sequences: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the pretraining texts as right-padded tokens (N, T) and their lengths (N,), the same for all models."""
    tokenizer = build_tokenizer()
    rows = tokenizer(pretraining_texts(sequences, seed))["input_ids"]
    return pad(rows, tokenizer.pad_token_id), torch.tensor([len(row) for row in rows])


def _fit(
    model: PreTrainedModel,
    table: Tensor,
    lengths: Tensor,
    batch_size: int,
    learning_rate: float,
    progress: Callable[[int, int, float], None] | None,
) -> None:
    """Trains `model` in one pass over `table` (N, T) in order (texts are i.i.d.), each batch cut to its longest row."""
    steps = -(-len(table) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    schedule: LambdaLR = cosine_schedule(optimizer, max(1, steps // 50), steps)
    model.train()
    attend_in_rows(model)  # computes attention in float32 where products are in bfloat16
    for step in range(steps):
        chosen = slice(step * batch_size, (step + 1) * batch_size)
        size = lengths[chosen]
        ids = table[chosen, : size.max()]
        mask = (torch.arange(size.max()) < size[:, None]).long()
        with computing_in(NATIVE, "cpu"):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, IGNORED)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss of pretraining became {loss.item()} by step {step + 1}; lower world.learning_rate"
                )
            if progress is not None:
                progress(step + 1, steps, loss.item())
