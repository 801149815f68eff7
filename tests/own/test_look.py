"""annotate.py show=N: how the data are read, before anything starts."""

import json
import textwrap

import pytest
from many_tokenizers import TEMPLATE
from own.test_annotate import composed
from tiny import tiny_tokenizer
from transformers import AutoTokenizer

from cwpo.commands.checks import check_command
from cwpo.errors import InputError
from cwpo.models.reward_models import reward_inputs
from cwpo.own.align import _fitting
from cwpo.own.annotate import label
from cwpo.own.weighted import read_weighted

ROWS = [
    {"history": "Which flour?", "human_ref_A": "Bread flour.", "human_ref_B": "No\x1b[31m idea.", "labels": 1},
    {"history": "Why?", "human_ref_A": "Salt.", "human_ref_B": "So.", "labels": 0},
    {"history": "Why?", "human_ref_A": "Same.", "human_ref_B": "Same.", "labels": 0},
    {"history": "When?", "human_ref_A": "Now.", "human_ref_B": "Later.", "labels": None},
]


def look(tmp_path, *words, rows=ROWS) -> str:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg, said = composed("annotate", f"data={tmp_path}/t.jsonl", *words), []
    check_command(cfg, "annotate")
    assert label(cfg, say=said.append) is None
    return "\n".join(said)


def test_columns_meaning_labels_drops_and_pairs_are_shown(tmp_path):
    said = look(tmp_path, "show=2")
    assert "4 rows with the columns history, human_ref_A, human_ref_B, labels" in said
    assert "read as: Stanford SHP; prompt is history;" in said and "1 or true prefers response_a" in said
    assert "labels: a 1, b 1, none 1" in said
    assert "3 usable pairs, 2 with a label; left out: identical_responses 1 (row 3)" in said
    assert said.count("row 1:") == said.count("row 2:") == 1 and "Later." not in said
    assert "row 1: label a" in said and "\\x1b[31m idea." in said
    assert list(tmp_path.iterdir()) == [tmp_path / "t.jsonl"]


def test_with_a_model_the_pairs_are_what_its_tokens_spell(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "model")
    assert tokenizer.eos_token in look(tmp_path, "show=1", f"model={tmp_path}/model")


def test_messages_are_seen_as_the_template_writes_them(tiny_checkpoint, tmp_path):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_checkpoint), tmp_path / "model"
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(model)
    talk = [{"role": "user", "content": "Why?"}]
    row = {"prompt": talk, "chosen": "Salt.", "rejected": "So."}
    said = look(tmp_path, "show=1", f"model={model}", rows=[row])
    for answer in ("Salt.", "So."):
        whole = tokenizer.apply_chat_template([*talk, {"role": "assistant", "content": answer}], tokenize=False)
        assert textwrap.indent(whole.rstrip("\n"), "  | ", lambda line: True) in said
    assert "written by the model's chat template" in said
    plain = look(tmp_path, "show=1", f"model={model}", "chat=false", rows=[row])
    assert "\n  | Human: Why?" in plain and "plain text, messages as in HH-RLHF" in plain


@pytest.mark.parametrize(("word", "said"), [("show=0", "show=0 must be at least 1"), ("ties=x", "ties=x is unknown")])
def test_wrong_settings_are_refused(word, said, tmp_path):
    with pytest.raises(InputError, match=said):
        look(tmp_path, "show=3", word)


def test_a_label_column_that_is_not_named_is_shown(tmp_path):
    row = {"question": "Why?", "answer_1": "Salt.", "answer_2": "So.", "better": "a"}
    names = {"prompt": "question", "response_a": "answer_1", "response_b": "answer_2"}
    said = look(tmp_path, "show=1", *(f"+columns.{ours}={theirs}" for ours, theirs in names.items()), rows=[row])
    assert "\n  not used: better\n" in said and "\nrow 1: no label\n" in said


def test_a_row_that_the_template_refuses_is_named_by_its_place_in_the_file(tiny_checkpoint, tmp_path):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_checkpoint), tmp_path / "model"
    no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"  # as Gemma's
    tokenizer.chat_template = no_system + TEMPLATE
    tokenizer.save_pretrained(model)
    asked = [{"role": "user", "content": "Why?"}]
    said = [[{"role": "system", "content": "Be kind."}, *asked], asked]
    rows = [{"prompt": asked, "chosen": "Same.", "rejected": "Same."}]  # left out
    rows += [{"prompt": talk, "chosen": "Salt.", "rejected": "So."} for talk in reversed(said)]
    wrong = r"row 3: the chat template cannot format its messages \(system, user\): no system; mend the row"
    with pytest.raises(InputError, match=rf"^{tmp_path}/t.jsonl: {wrong}"):
        look(tmp_path, "show=3", f"model={model}", rows=rows)
    (tmp_path / "w.jsonl").write_text("".join(json.dumps(row | {"weight": 1}) + "\n" for row in rows))
    table, read = read_weighted(str(tmp_path / "w.jsonl"))
    words = [f"preferences={tmp_path}/w.jsonl", f"model={model}", "out=o"]
    (model / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    with pytest.raises(InputError, match=rf"^w: {wrong}"):
        _fitting(table, composed("align", *words), "w", read)
    with pytest.raises(InputError, match="row 0: the chat template cannot format its messages"):
        reward_inputs(tokenizer, said, ["Salt."] * 2, chat=True)
