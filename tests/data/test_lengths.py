"""A tokenizer that knows no word of the data is named; texts would all look alike to it."""

import json

import pytest
from own.test_annotate import composed
from tiny import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cwpo.data.lengths import check_words
from cwpo.errors import InputError
from cwpo.own.annotate import label


@pytest.fixture(scope="module")
def english():
    words = {word: i for i, word in enumerate(["[UNK]", "</s>", "what", "bread", "▁"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>", pad_token="</s>")


@pytest.mark.parametrize(
    ("texts", "known"), [(["что", "what хлеб"], True), (["что хлеб"] * 3, False), (["", " "], True)]
)
def test_one_known_word_is_enough(english, texts, known):
    if known:
        check_words(english, texts, "m")
        return
    with pytest.raises(InputError, match="the tokenizer of m knows no word of the data, as in 'что хлеб'"):
        check_words(english, texts, "m")


def test_annotate_says_so_before_it_trains(english, tmp_path):
    english.save_pretrained(tmp_path / "m")
    tiny_model("llama").save_pretrained(tmp_path / "m")
    rows = [
        {"prompt": f"что {i}", "response_a": f"да {i}", "response_b": "нет", "label": "ab"[i % 2]} for i in range(30)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = composed("annotate", f"data={tmp_path}/t.jsonl", f"model={tmp_path}/m", f"out={tmp_path}/out")
    with pytest.raises(InputError, match=f"the tokenizer of {tmp_path}/m knows no word of the data"):
        label(cfg, say=lambda line: None)
