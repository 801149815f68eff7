"""Defines the benchmark's workloads: shapes of models, and pairs that are as long as those of real data sets.

Speed depends on shapes and lengths only, so weights are random; words are random, too, unless pairs come from a file.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import OPTConfig, PreTrainedTokenizerFast

from cwpo.data.batching import encode_pairs
from cwpo.data.labels import chosen_rejected
from cwpo.data.sources import drop_unusable, read_pairs
from cwpo.errors import InputError


@dataclass(frozen=True)
class Workload:
    """An OPT model with config values `shape`, and pairs with log-normal token counts.

    `prompt`, `response`: (mean, standard deviation) of log(tokens of a prompt) and log(tokens of a response). A prompt
    with one response has at most `longest` tokens.
    """

    shape: dict[str, Any]
    prompt: tuple[float, float]
    response: tuple[float, float]
    longest: int = 512
    lora: bool = False
    dtype: str = "float32"


OPT_125M = {"vocab_size": 50272}  # transformers' OPTConfig is otherwise OPT-125M's
OPT_1_3B = {
    "vocab_size": 50272,
    "hidden_size": 2048,
    "ffn_dim": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "word_embed_proj_dim": 2048,
}
TINY = {
    "vocab_size": 352,
    "hidden_size": 64,
    "ffn_dim": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "word_embed_proj_dim": 64,
    "max_position_embeddings": 4096,
}
HH = ((4.33, 1.0), (3.5, 0.89))  # harmless and helpful test pairs of at most 512 GPT-2 tokens
LONG_PROMPT = ((5.8, 0.25), (3.5, 0.35))  # posts of about 330 tokens and their summaries of about 35
TOY = ((1.6, 0.2), (2.0, 0.3))  # the synthetic world
WORKLOADS = {
    "hh": Workload(OPT_125M, *HH),
    "long_prompt": Workload(OPT_125M, *LONG_PROMPT),
    "toy": Workload(TINY, *TOY, longest=64),
    "tiny_lora": Workload(TINY, *HH, lora=True),
    "lora_125m": Workload(OPT_125M, *HH, lora=True, dtype="bfloat16"),
    "lora_1_3b": Workload(OPT_1_3B, *HH, lora=True, dtype="bfloat16"),
}


def words_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of `words` tokens: pad, BOS, EOS, and one for each of the words w3, w4, ..."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def random_pairs(workload: Workload, count: int) -> list[dict[str, str]]:
    """Returns `count` pairs of random words, with lengths drawn from the workload's distribution."""
    draw = random.Random(0)
    words = workload.shape["vocab_size"]

    def length(moments: tuple[float, float], most: int) -> int:
        return min(most, max(1, round(math.exp(draw.gauss(*moments)))))

    def text(tokens: int) -> str:
        return " ".join(f"w{draw.randrange(3, words)}" for _ in range(tokens))

    pairs = []
    for _ in range(count):
        responses = [length(workload.response, workload.longest // 2) for _ in range(2)]
        prompt = length(workload.prompt, workload.longest - max(responses) - 2)
        chosen, rejected = (text(n) for n in responses)
        pairs.append({"prompt": text(prompt), "chosen": f" {chosen}", "rejected": f" {rejected}"})
    return pairs


def file_pairs(path: str, tokenizer: PreTrainedTokenizerFast, count: int, longest: int) -> list[dict[str, str]]:
    """Returns `count` random pairs of at most `longest` tokens from a data=jsonl file; InputError if it has fewer."""
    data = SimpleNamespace(source="jsonl", name="benchmark", path=path, columns={}, folders=[], revision=None)
    frame, _ = drop_unusable(read_pairs(data, 0)[0])
    frame = frame.sample(frac=1.0, random_state=0)
    table = chosen_rejected(frame, frame["human_label"] == "a")[["prompt", "chosen", "rejected"]]
    rows = encode_pairs(tokenizer, *(table[name].tolist() for name in table.columns))
    fits = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= longest for row in rows]
    if sum(fits) < count:
        raise InputError(
            f"{path} has {sum(fits)} pairs of at most {longest} tokens, but the benchmark needs {count}; "
            "set a lower pairs.<workload>, or name a larger file in data="
        )
    return table[fits].head(count).to_dict("records")


def model_config(shape: dict[str, Any]) -> OPTConfig:
    """Returns the config of a workload's model, with dropout off."""
    return OPTConfig(**shape, dropout=0.0, attention_dropout=0.0, layerdrop=0.0)
