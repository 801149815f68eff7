"""An ordinary word-level tokenizer: a word of a prompt is one token, so is a whole sentence of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cwpo.data.toy.sentences import (
    FILLER,
    HARMFUL_REQUESTS,
    HARMLESS_REQUESTS,
    POLITE,
    QUESTION,
    REACTIONS,
    REFUSAL,
    STYLES,
    SUMMARY_REQUESTS,
    TOXIC,
)
from cwpo.data.toy.topics import TOPICS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; the same ids every time. It puts <s> before a text, and </s> never.

    Sentences are added tokens, found anywhere in a text; what lies between them is split at white space. A
    decoded response is its sentences joined by single spaces, and encoding it again gives the same ids.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [PAD, BOS, EOS, UNK]
    sentences = _sentences()
    vocabulary = {token: index for index, token in enumerate(special + _words() + sentences)}
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


def _words() -> list[str]:
    requests = HARMLESS_REQUESTS + SUMMARY_REQUESTS + HARMFUL_REQUESTS
    words = ["Human:", "Assistant:", *STYLES, *" ".join(requests).split(), *(f"{topic}." for topic in TOPICS)]
    return list(dict.fromkeys(words))


def _sentences() -> list[str]:
    facts = [fact for topic in TOPICS.values() for fact in topic.facts]
    reactions = [reaction for paraphrases in REACTIONS.values() for reaction in paraphrases]
    return [*facts, *POLITE, *TOXIC, *REFUSAL, *FILLER, *QUESTION, *reactions]
