"""Tiny local copies of what scale=paper uses: real configuration classes, real kinds of tokenizers, the published files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

SUBJECTS = ["bread", "bridges", "owls", "tides", "clocks", "maps", "salt", "lamps", "wool", "chess"]
QWEN_CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + "
    "'<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def ask(number: int) -> str:
    return f"what can you tell me about {SUBJECTS[number % 10]}, part {number}?"


def good(number: int) -> str:
    return f"Gladly: {SUBJECTS[number % 10]} are warm and old, and there are {number} kinds."


def bad(number: int) -> str:
    return f"No. I know nothing about number {number}, go away."


# --- data, in the published files ------------------------------------------------------------------------------------


def hh_rows(start: int, count: int) -> list[dict[str, str]]:
    """Dialogues of one and of two rounds."""
    rows = []
    for i in range(start, start + count):
        before = "\n\nHuman: hello\n\nAssistant: hello, how may I help?" if i % 2 else ""
        head = f"{before}\n\nHuman: {ask(i)}\n\nAssistant:"
        rows.append({"chosen": f"{head} {good(i)}", "rejected": f"{head} {bad(i)}"})
    return rows


def summary_rows(start: int, count: int) -> list[dict[str, str]]:
    return [
        {
            "prompt": f"SUBREDDIT: r/{SUBJECTS[i % 10]}\nTITLE: {ask(i)}\nPOST: I asked and asked, {i} times.\n",
            "chosen": f"TL;DR: {good(i)}",
            "rejected": f"TL;DR: {bad(i)}",
        }
        for i in range(start, start + count)
    ]


def chat_rows(start: int, count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(start, start + count):
        asked = {"role": "user", "content": ask(i)}
        sides = {
            name: [asked, {"role": "assistant", "content": text}]
            for name, text in (("chosen", good(i)), ("rejected", bad(i)))
        }
        rows.append({"prompt": ask(i), "prompt_id": str(i), **sides, "score_chosen": 8.0, "score_rejected": 3.0})
    return rows


def comment_rows(start: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "post_id": f"p{i}",
            "domain": "askacademia_train",
            "history": ask(i),
            "human_ref_A": good(i) if i % 2 else bad(i),
            "human_ref_B": bad(i) if i % 2 else good(i),
            "labels": i % 2,
        }
        for i in range(start, start + count)
    ]


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def published_folder(folder: Path, train: int = 60, test: int = 8) -> Path:
    """All the paper's data sets in one folder, each in its published files: their names do not meet."""
    for number, kind in enumerate(("harmless-base", "helpful-base")):
        start = 1000 * number
        write_lines(folder / kind / "train.jsonl.gz", hh_rows(start, train))
        write_lines(folder / kind / "test.jsonl.gz", hh_rows(start + train, test))
    write_parquet(folder / "data" / "train-00000-of-00001-3cbd295cedeecf91.parquet", summary_rows(0, train))
    write_parquet(folder / "data" / "valid1-00000-of-00001-b647616a2be5f333.parquet", summary_rows(train, test))
    write_parquet(folder / "data" / "train_prefs-00000-of-00001.parquet", chat_rows(0, train))
    write_parquet(folder / "data" / "test_prefs-00000-of-00001.parquet", chat_rows(train, test))
    write_lines(folder / "askacademia" / "train.json", comment_rows(0, train))
    write_lines(folder / "askacademia" / "test.json", comment_rows(train, test))
    return folder


# --- models ----------------------------------------------------------------------------------------------------------


def trained_bpe(specials: list[str], size: int = 420) -> Tokenizer:
    """A byte-level BPE, which reads any text, trained on what the data sets above say."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([say(i) for i in range(50) for say in (ask, good, bad)], trainer)
    return tokenizer


def opt_files(folder: Path) -> int:
    """A tokenizer as OPT's repositories have it: GPT-2's two files, and a config that wants </s> in front."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = trained_bpe(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    config = {"add_bos_token": True, "tokenizer_class": "GPT2Tokenizer", "errors": "replace", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return tokenizer.get_vocab_size()


def qwen_files(folder: Path, eos: str = "<|endoftext|>") -> int:
    """As Qwen2.5's base models have it: no BOS, and a chat template although nobody chats with a base model."""
    tokenizer = trained_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, pad_token="<|endoftext|>")
    fast.chat_template = QWEN_CHAT
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def llama_files(folder: Path, pad: str | None = None) -> int:
    """As Llama-3.1-8B-Instruct has it: BOS put in front by the post-processor and by the template, <|eot_id|> as EOS, no pad."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|pad|>"]
    tokenizer = trained_bpe(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token=pad
    )
    fast.chat_template = LLAMA_CHAT
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def opt(folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """An OPT as published: weights and config in float16, dropout 0.1."""
    size = opt_files(folder)
    config = OPTConfig(
        vocab_size=size,
        ffn_dim=64,
        word_embed_proj_dim=32,
        max_position_embeddings=2048,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        **SMALL,
    )
    return _saved(OPTForCausalLM(config).to(dtype), folder)


def qwen(folder: Path) -> Path:
    size = qwen_files(folder)
    config = Qwen2Config(
        vocab_size=size, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=4096, **SMALL
    )
    return _saved(Qwen2ForCausalLM(config).to(torch.bfloat16), folder)


def llama(folder: Path) -> Path:
    size = llama_files(folder)
    return _saved(LlamaForCausalLM(_llama_config(size)).to(torch.bfloat16), folder)


def skywork(folder: Path, pad: str | None = None) -> Path:
    """A Llama with one score. Its tokenizer has no pad token unless told."""
    size = llama_files(folder, pad)
    return _saved(LlamaForSequenceClassification(_llama_config(size, num_labels=1)), folder)


def trl_qwen(folder: Path) -> Path:
    size = qwen_files(folder, eos="<|im_end|>")
    config = Qwen2Config(vocab_size=size, intermediate_size=64, num_key_value_heads=2, num_labels=1, **SMALL)
    config.pad_token_id = 0
    return _saved(Qwen2ForSequenceClassification(config), folder)


def skywork_qwen(folder: Path) -> Path:
    """Skywork-Reward-V2-Qwen3: a chat reward in bfloat16 that pads with <|endoftext|> and ends turns with <|im_end|>."""
    size = qwen_files(folder, eos="<|im_end|>")
    config = Qwen3Config(
        vocab_size=size, intermediate_size=64, num_key_value_heads=2, head_dim=8, num_labels=1, **SMALL
    )
    config.pad_token_id = 0
    return _saved(Qwen3ForSequenceClassification(config).to(torch.bfloat16), folder)


def openassistant(folder: Path) -> Path:
    """A DeBERTa-v2 with one score, which reads [CLS] question [SEP] answer [SEP]."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = trained_bpe(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = DebertaV2Config(
        vocab_size=tokenizer.get_vocab_size(),
        intermediate_size=64,
        num_labels=1,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        **SMALL,
    )
    return _saved(DebertaV2ForSequenceClassification(config), folder)


def steamshp(folder: Path) -> Path:
    """A T5, whose tokenizer ends every text with </s>."""
    tokenizer = trained_bpe(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return _saved(T5ForConditionalGeneration(config), folder)


def _llama_config(size: int, **more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=size,
        intermediate_size=64,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        **SMALL,
        **more,
    )


def _saved(model: Any, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(str(type(model))))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder
