"""A word-level tokenizer: each word of a prompt is one token, and each sentence of a response is one token."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from cwpo.data.toy.sentences import ACTS, REACTIONS, REQUESTS, STYLES
from cwpo.data.toy.topics import TOPICS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Builds the tokenizer, with the same ids every time. It puts <s> before a text, and never adds </s>.

    Sentences are added tokens, found anywhere in a text; the text between them is split at white space. A decoded
    response is its sentences joined by single spaces, and encoding it again gives the same ids.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [PAD, BOS, EOS, UNK]
    sentences = list(chain(*TOPICS.values(), *ACTS.values(), *REACTIONS.values()))
    words = ["Human:", "Assistant:", *STYLES, *" ".join(REQUESTS).split(), *(f"{topic}." for topic in TOPICS)]
    vocabulary = {token: index for index, token in enumerate(special + list(dict.fromkeys(words)) + sentences)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(sentence, normalized=False) for sentence in sentences])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
