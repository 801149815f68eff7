"""A user's own table: every form of it, what a label and votes mean, and one clear message with row numbers for what is wrong."""

import json

import pandas as pd
import pytest

from cwpo.data.dialogues import replies
from cwpo.data.own import SCHEMA, convert
from cwpo.data.own_texts import as_conversations, pair_texts
from cwpo.data.rows import read_prompts
from cwpo.errors import InputError, LeftOut, WrongRow
from cwpo.own.weighted import read_weighted

ROWS = [
    {"prompt": "p1", "response_a": "x", "response_b": "y", "label": "a"},
    {"prompt": "p2", "response_a": "x", "response_b": "z", "label": "b"},
    {"prompt": "p3", "response_a": "u", "response_b": "v", "label": None},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path, tmp_path, *args, **kwargs):
    done = convert(str(path), tmp_path / "out.parquet", *args, **kwargs)
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert list(table.columns) == SCHEMA.names
    assert (done.kept, done.labeled) == (len(table), int((table["n_votes"] > 0).sum()))
    return done, table


def refused(path, tmp_path, *args, **kwargs) -> list[str]:
    with pytest.raises(InputError) as error:
        convert(str(path), tmp_path / "out.parquet", *args, **kwargs)
    assert not (tmp_path / "out.parquet").exists()
    return error.value.problems


# --- forms --------------------------------------------------------------------------------------------------------


def test_columns_of_other_names(tmp_path):
    rows = [{"question": "q", "first": "x", "second": "y", "winner": "second", "topic": "t"}]
    names = {"prompt": "question", "response_a": "first", "response_b": "second", "label": "winner", "domain": "topic"}
    _, table = read(lines(tmp_path / "t.jsonl", rows), tmp_path, names)
    assert table[["prompt", "response_a", "target", "domain"]].values.tolist() == [["q", "x", 0.0, "t"]]


def test_the_chosen_side_does_not_tell_that_it_is_chosen(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(200)]
    _, table = read(lines(tmp_path / "t.jsonl", rows), tmp_path)
    assert 70 < table["target"].sum() < 130
    assert (table["response_a"].str.startswith("good") == (table["target"] == 1)).all()


def test_messages_and_dialogues():
    user = {"role": "user", "content": "hi"}
    said = [[user, {"role": "assistant", "content": text}] for text in ("x", "y")]
    asked = "\n\nHuman: hi\n\nAssistant:"
    assert pair_texts(None, *said) == (asked, " x", " y", json.dumps([user]))
    assert pair_texts("hi", *said)[:3] == (asked, " x", " y")
    assert pair_texts("own", *said)[:3] == (asked.replace("hi", "own"), " x", " y")
    assert pair_texts([user], "x", " y")[:3] == (asked, " x", " y")
    turns = [user, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "go"}]
    prompt = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: go\n\nAssistant:"
    assert pair_texts(turns, "x", "y") == (prompt, " x", " y", json.dumps(turns))
    assert pair_texts(None, f"{prompt} x", f"{prompt} y") == (prompt, " x", " y", None)


USER = {"role": "user", "content": "hi"}
ANSWER = [USER, {"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ((None, "\n\nHuman: a\n\nAssistant: x", "\n\nHuman: b\n\nAssistant: y"), "prompts_differ"),
        ((None, "x", "y"), "missing_prompt"),
        ((None, None, "y"), "missing_first"),
        (("p", "x", float("nan")), "missing_second"),
        ((None, ANSWER, ANSWER), "identical_responses"),
        ((None, [USER], ANSWER), "empty_response"),
        (("p", " ", "y"), "empty_response"),
        ((None, ANSWER, [USER, {"role": "assistant", "content": "as in\n\nHuman: no"}]), "speaker_in_response"),
    ],
)
def test_cells_without_a_usable_pair_are_left_out(cells, reason):
    with pytest.raises(LeftOut, match=f"^{reason}$"):
        pair_texts(*cells)


def test_text_beside_messages_is_wrong():
    with pytest.raises(WrongRow, match="have text in one of the columns a and b and messages in the other"):
        pair_texts("p", "x", ANSWER, ("a", "b"))


SAID = {"role": "assistant", "content": "4"}
ASKED = {"role": "user", "content": "2+2?"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASKED], "response_a": [SAID], "response_b": [{**SAID, "content": "5"}]},
        {"prompt": [ASKED], "response_a": "4", "response_b": "5"},
        {"prompt": "2+2?", "response_a": [SAID], "response_b": [{**SAID, "content": "5"}]},
        {"response_a": [ASKED, SAID], "response_b": [ASKED, {**SAID, "content": "5"}]},
        {"prompt": "2+2?", "response_a": [ASKED, SAID], "response_b": [ASKED, {**SAID, "content": "5"}]},
        {"prompt": json.dumps([ASKED]), "response_a": json.dumps([SAID]), "response_b": '[{"role": "assistant", "content": "5"}]'},
        {"response_a": json.dumps([ASKED, SAID]), "response_b": json.dumps([ASKED, {**SAID, "content": "5"}])},
        {"prompt": [{"from": "human", "value": "2+2?"}], "response_a": [{"from": "gpt", "value": "4"}], "response_b": [{"from": "gpt", "value": "5"}]},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]}], "response_a": "4", "response_b": "5"},
    ],
)  # fmt: skip
def test_every_form_of_messages_is_the_same_conversation(tmp_path, row):
    _, table = read(lines(tmp_path / "t.jsonl", [row]), tmp_path)
    texts = table.loc[0, ["prompt", "response_a", "response_b"]].tolist()
    assert texts == ["\n\nHuman: 2+2?\n\nAssistant:", " 4", " 5"]
    assert json.loads(table.loc[0, "messages"]) == [ASKED]
    prompts, first = as_conversations(table, "response_a")
    assert (prompts, first) == ([[ASKED]], [[SAID]])


def test_text_has_no_messages(tmp_path):
    _, table = read(lines(tmp_path / "t.jsonl", [{"prompt": "p", "chosen": "x", "rejected": "y"}]), tmp_path)
    assert table["messages"].isna().all()
    assert as_conversations(table, "response_a")[0] == ["p"]


def test_conversations_that_part_early_have_one_header_each():
    system = {"role": "system", "content": "Be kind."}
    a = [system, ASKED, SAID, {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
    b = [system, ASKED, {**SAID, "content": "5"}]
    prompt, first, second, _ = pair_texts(None, a, b)
    assert prompt == "\n\nSystem: Be kind.\n\nHuman: 2+2?\n\nAssistant:"
    assert (first, second) == (" 4\n\nHuman: sure?\n\nAssistant: yes", " 5")
    assert replies(first) == a[2:] and replies(second) == b[2:]
    others = (
        [ASKED, SAID, {"role": "user", "content": "x"}, SAID],
        [ASKED, SAID, {"role": "user", "content": "y"}, SAID],
    )
    with pytest.raises(LeftOut, match="prompts_differ"):
        pair_texts(None, *others)


def test_calls_of_tools_have_no_content():
    calls = [{"function": {"name": "add", "arguments": {"a": 2}}}]
    asked = [ASKED, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "4"}]
    prompt, *_, messages = pair_texts(asked, "4", "5")
    assert prompt == (
        '\n\nHuman: 2+2?\n\nAssistant: [{"function": {"name": "add", "arguments": {"a": 2}}}]\n\nTool: 4\n\nAssistant:'
    )
    assert json.loads(messages)[1] == {"role": "assistant", "content": "", "tool_calls": calls}


@pytest.mark.parametrize(
    "value",
    [str([ASKED]), [{"role": "user"}], [{"content": "x"}], [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]],
)  # fmt: skip
def test_what_only_looks_like_messages_is_a_problem(value):
    with pytest.raises(WrongRow, match="have a prompt"):
        pair_texts(value, "4", "5")


DIALOGUE = "\n\nHuman: 2+2?\n\nAssistant:"
KEPT = {"prompt": DIALOGUE, "messages": json.dumps([ASKED]), "chosen": " 4", "rejected": " 5"}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "p"}, "p"),
        ({"prompt": "p", "label": 7}, "p"),
        ({"prompt": [ASKED]}, [ASKED]),
        ({"chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "5"}]}, [ASKED]),
        ({"chosen": f"{DIALOGUE} 4", "rejected": f"{DIALOGUE} 5"}, DIALOGUE),
        ({"conversation_a": [ASKED, SAID], "conversation_b": [ASKED, {**SAID, "content": "5"}], "winner": "tie"}, [ASKED]),
        ({"history": "2+2?", "human_ref_A": "4", "human_ref_B": "5", "labels": 1}, "2+2?"),
        (KEPT, [ASKED]),
        (KEPT | {"messages": json.dumps([SAID])}, DIALOGUE),  # another data set's column
    ],
)  # fmt: skip
def test_prompts_are_read_as_pairs_are(tmp_path, row, prompt):
    assert list(read_prompts(lines(tmp_path / "t.jsonl", [row]), "prompt")) == [prompt]


def test_prompts_of_another_column_and_rows_without_one(tmp_path):
    differ = {"chosen": f"{DIALOGUE} 4", "rejected": f"\n\nHuman: other{DIALOGUE} 5"}
    assert list(read_prompts(lines(tmp_path / "t.jsonl", [{"q": [ASKED]}, differ]), "q")) == [[ASKED]]
    for row in ({"question": "p"}, {"prompt": 5}):
        with pytest.raises(InputError, match="row 1: the column prompt is missing, or is neither text"):
            list(read_prompts(lines(tmp_path / "t.jsonl", [row]), "prompt"))


def test_align_reads_the_messages_that_annotate_keeps(tmp_path):
    """A row of preferences.parquet, and pairs of messages whose label names the second response."""
    sides = {"response_a": [SAID], "response_b": [{**SAID, "content": "5"}], "label": "b"}
    file = lines(tmp_path / "t.jsonl", [KEPT | {"weight": 0.5}, {"prompt": [ASKED], **sides, "weight": 1}])
    table, done = read_weighted(file)
    assert table[["prompt", "chosen", "rejected"]].values.tolist() == [[DIALOGUE, " 4", " 5"], [DIALOGUE, " 5", " 4"]]
    assert [json.loads(kept) for kept in table["messages"]] == [[ASKED], [ASKED]]
    assert (done.read, done.kept) == (2, 2)


# --- labels and votes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ties", "targets"), [("drop", [1.0, 0.0]), ("soft", [2 / 3, 0.5, 0.0])])
def test_split_votes_are_a_majority_or_a_share(ties, targets, tmp_path):
    votes = [["a", "a", "b"], ["a", "b"], ["b"]]
    rows = [{"prompt": f"p{i}", "response_a": "x", "response_b": "y", "votes": v} for i, v in enumerate(votes)]
    done, table = read(lines(tmp_path / "t.jsonl", rows), tmp_path, ties=ties)
    assert table["target"].tolist() == pytest.approx(targets)
    assert table["share"].tolist()[0] == pytest.approx(2 / 3)
    assert done.dropped == ({"no_majority": [2]} if ties == "drop" else {})


# --- what is left out, what is refused ----------------------------------------------------------------------------


def test_every_row_left_out_is_counted_by_its_number(tmp_path):
    rows = [
        ROWS[0],
        {**ROWS[0], "prompt": "q1", "response_a": " "},
        {**ROWS[0], "prompt": "q2", "response_b": "x"},
        {**ROWS[0], "response_a": "y", "response_b": "x", "label": "b"},  # the first pair, sides exchanged
        {**ROWS[0], "prompt": None},
        {"prompt": "q3", "response_a": "x"},
        {**ROWS[0], "prompt": "q4", "label": "tie"},
    ]
    done, table = read(lines(tmp_path / "t.jsonl", rows), tmp_path)
    assert done.dropped == {
        "empty_response": [2],
        "identical_responses": [3],
        "repeated": [4],
        "missing_prompt": [5],
        "missing_response_b": [6],
        "no_majority": [7],
    }
    assert table["row"].tolist() == [1]
    assert done.drops().startswith("empty_response 1 (row 2); identical_responses 1 (row 3)")


def test_a_label_that_a_repeated_pair_loses_is_counted_apart(tmp_path):
    rows = [
        ROWS[2],
        {**ROWS[2], "label": "a"},  # the first of these has no label
        ROWS[0],
        {**ROWS[0], "label": None},
        {**ROWS[0], "response_a": "y", "response_b": "x", "label": "b"},  # says the same
        {**ROWS[0], "label": "b"},
    ]
    done, table = read(lines(tmp_path / "t.jsonl", rows), tmp_path)
    assert table["row"].tolist() == [1, 3]
    assert done.dropped == {"repeated_with_another_label": [2, 6], "repeated": [4, 5]}
    texts = {name: ROWS[0][name] for name in ("prompt", "response_a", "response_b")}
    votes = [texts | {"votes": votes} for votes in (["a", "a", "b"], ["a", "a", "a"])]  # the same majority
    assert read(lines(tmp_path / "v.jsonl", votes), tmp_path)[0].dropped == {"repeated": [2]}


def test_labels_beside_chosen_and_rejected(tmp_path):
    row = {"prompt": "p", "chosen": "x", "rejected": "y", "label": "b", "votes": ["b"], "better": "b"}
    file = lines(tmp_path / "t.jsonl", [row])
    assert read(file, tmp_path)[0].unused == ["label", "votes", "better"]
    (problem,) = refused(file, tmp_path, {"label": "better"})
    assert problem.startswith("columns.label=better would be ignored: chosen of")
    _, table = read(file, tmp_path, {"response_a": "chosen", "response_b": "rejected", "label": "better"})
    assert (table.loc[0, "response_a"], table.loc[0, "target"]) == ("x", 0.0)


def test_wrong_values_are_reported_all_at_once_with_their_rows(tmp_path):
    rows = [ROWS[0], {**ROWS[1], "label": "c"}, {**ROWS[1], "label": 7}, {**ROWS[1], "prompt": 5}]
    problems = refused(lines(tmp_path / "t.jsonl", rows), tmp_path)
    assert len(problems) == 2
    assert """rows 2 ('c'), 3 (7) have a label that names no response; write "a", "b" or "tie\"""" in problems[0]
    assert "row 4 (5) has a prompt that is neither text nor" in problems[1]


def test_many_wrong_rows_are_counted_and_the_first_are_named(tmp_path):
    rows = [{**ROWS[0], "label": "c"} for _ in range(9)]
    (line,) = refused(lines(tmp_path / "t.jsonl", rows), tmp_path)
    assert "rows 1 ('c'), 2 ('c'), 3 ('c'), 4 ('c'), 5 ('c') and 4 more have a label" in line


def test_half_a_character_is_no_text(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt": "\\ud800", "response_a": "x", "response_b": "y"}\n')
    assert "has a prompt that is neither text" in refused(tmp_path / "t.jsonl", tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ('{"prompt": "p", "answer": "x"}\n', "needs the columns prompt, response_a, response_b"),
        ('{"chosen": "x", "rejected": "y"}\n', "it has chosen, rejected. Name yours with +columns.prompt="),
        (json.dumps({**ROWS[0], "response_a": "y"}) + "\n", "none of 1 rows can be used"),
    ],
)
def test_tables_without_pairs(text, said, tmp_path):
    (tmp_path / "t.jsonl").write_text(text)
    (line,) = refused(tmp_path / "t.jsonl", tmp_path)
    assert said in line


def test_a_column_that_no_row_has(tmp_path):
    path = lines(tmp_path / "t.jsonl", ROWS)
    assert refused(path, tmp_path, {"votes": "ratings"}) == [
        f"{path} has no column ratings (columns.votes); valid: prompt, response_a, response_b, label"
    ]
    assert "columns.lable is unknown; valid: prompt," in refused(path, tmp_path, {"lable": "label"})[0]


def test_a_label_column_that_only_later_rows_have(tmp_path):
    rows = [{k: v for k, v in ROWS[0].items() if k != "label"}, {**ROWS[1], "label": None, "winner": "b"}]
    done, _ = read(lines(tmp_path / "t.jsonl", rows), tmp_path, {"label": "winner"})
    assert done.labeled == 1
