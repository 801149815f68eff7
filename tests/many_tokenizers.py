"""Tokenizers of every kind: byte-level BPE, SentencePiece-like BPE and Unigram, WordPiece, whole words; with and without
BOS and EOS, prefix spaces, added tokens and chat templates."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from tiny import tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cwpo.data.toy import build_tokenizer

SHARED = Path(os.environ.get("CWPO_SHARED", Path(__file__).resolve().parents[2] / "shared"))
CORPUS = [
    "Once upon a time there was a little girl named Lily.\nShe went to the park with her mom, and they played all day!",
    "\n\nHuman: What is 2+2? How do I bake bread?\n\nAssistant: It is 4. Bake it warm, then let it cool.\n\nHuman: Thanks",
    "The time is 10:45; don't go there. Tom and his mom went home, it's raining and the wind was cold (very cold).",
] * 4  # fmt: skip
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
# Turns end in EOS and a line end, as those of many models do; contents are not trimmed.
TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m['role'] }}]: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]: {% endif %}"
)


def byte_level(prefix_space: bool = False, template: str | None = None, added: tuple[str, ...] = (), **settings: Any):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken(text, normalized=False) for text in added])
    return framed(backend, template, unk=None, **settings)


def unigram(scheme: str, template: str | None = "<s> $A", **settings: Any):
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return framed(backend, template, **settings)


def word_piece(template: str | None = "<s> $A </s>", **settings: Any):
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=250, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return framed(backend, template, **settings)


def framed(backend: Tokenizer, template: str | None, unk: str | None = "<unk>", **settings: Any):
    if template:
        names = [(name, backend.token_to_id(name)) for name in ("<s>", "</s>")]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=names)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": unk} | settings
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def with_template(tokenizer: Any) -> Any:
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def gpt2():
    folder = SHARED / "tokenizers" / "gpt2-bpe"
    backend = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


MAKERS = {
    "byte-level": lambda: byte_level(),
    "byte-level, BOS": lambda: byte_level(template="<s> $A"),
    "byte-level, BOS and EOS": lambda: byte_level(template="<s> $A </s>"),
    "byte-level, BOS is EOS": lambda: byte_level(template="</s> $A", bos_token="</s>"),
    "byte-level, prefix space": lambda: byte_level(prefix_space=True, template="<s> $A"),
    "byte-level, added tokens": lambda: byte_level(added=("<tool>", "park with", " time", "er")),
    "byte-level, template": lambda: with_template(byte_level()),
    "byte-level, BOS, template": lambda: with_template(byte_level(template="<s> $A")),
    "unigram, space first": lambda: unigram("first"),
    "unigram, space always": lambda: unigram("always", template="$A </s>"),
    "unigram, no prefix space": lambda: unigram("never", template=None),
    "unigram, template": lambda: with_template(unigram("always")),
    "WordPiece": lambda: word_piece(),
    "WordPiece, bare": lambda: word_piece(template=None),
    "words": lambda: tiny_tokenizer(),
    "toy world": build_tokenizer,
    "GPT-2": gpt2,
    "stories260k": lambda: AutoTokenizer.from_pretrained(SHARED / "models" / "stories260k"),
    "aidreams260k": lambda: AutoTokenizer.from_pretrained(SHARED / "models" / "aidreams260k"),
    "stories260k, template": lambda: with_template(AutoTokenizer.from_pretrained(SHARED / "models" / "stories260k")),
}
OURS = {"words", "toy world"}  # without a decoder: each text is split at white space
SHARED_ONLY = {"GPT-2", "stories260k", "aidreams260k", "stories260k, template"}


@functools.cache
def tokenizer_of(name: str) -> Any:
    return MAKERS[name]()


def at_hand() -> list[str]:
    """The names of the tokenizers that can be built here."""
    return [name for name in MAKERS if SHARED.is_dir() or name not in SHARED_ONLY]
