"""Published layouts are recognised, and a label in them means what their publishers say, in every command."""

import json

import pandas as pd
import pytest
from data.test_own import lines
from data.test_sources import source

from cwpo.data.layouts import LAYOUTS, OWN, layout_of
from cwpo.data.own import convert
from cwpo.data.sources import read_pairs
from cwpo.errors import InputError

GOOD, BAD = "Bread flour, it holds.", "No idea."


def talk(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def shp(label):
    return {"history": "Which?", "human_ref_A": GOOD, "human_ref_B": BAD, "labels": label, "score_A": 90}


def arena(winner):
    sides = {"conversation_a": talk("Which?", GOOD), "conversation_b": talk("Which?", BAD)}
    return {"model_a": "x", "model_b": "y", "winner": winner, **sides}


def arena_55k(a, b, tie):
    texts = {"prompt": '["Which?"]', "response_a": json.dumps([GOOD]), "response_b": json.dumps([BAD])}
    return texts | {"winner_model_a": a, "winner_model_b": b, "winner_tie": tie}


def safe(better):
    return {"prompt": "Which?", "response_0": GOOD, "response_1": BAD, "better_response_id": better}


def rated(*ratings, texts=(GOOD, BAD)):
    return {"instruction": "Which?", "generations": list(texts), "ratings": list(ratings)}


def scored(chosen, rejected, names=("score_chosen", "score_rejected")):
    return {"prompt": "Which?", "chosen": GOOD, "rejected": BAD, **dict(zip(names, (chosen, rejected), strict=True))}


ARGILLA = {"instruction": "Which?", "chosen_response": GOOD, "rejected_response": BAD}
DIALOGUE = "\n\nHuman: Which?\n\nAssistant: "
# (row, the preferred response, or None for a tie)
MEANINGS = [
    (shp(1), GOOD),
    (shp(0), BAD),
    (shp(1.0), GOOD),
    (arena("model_a"), GOOD),
    (arena("model_b"), BAD),
    (arena("tie"), None),
    (arena("tie (bothbad)"), None),
    (arena_55k(1, 0, 0), GOOD),
    (arena_55k(0, 1, 0), BAD),
    (arena_55k(0, 0, 1), None),
    (safe(0), GOOD),
    (safe(1), BAD),
    (rated(5.0, 2.0), GOOD),
    (rated(1, 2), BAD),
    (rated(3, 3), None),
    (rated(3, 1, 5, None, texts=("so", BAD, GOOD, "unrated")), GOOD),
    (rated(2, 2, 2, texts=(GOOD, BAD, "so")), None),
    (scored(8.0, 3.5), GOOD),
    (scored(4, 4), None),
    (scored(None, None), GOOD),
    (scored(5, 1, ("chosen_rating", "rejected_rating")), GOOD),
    (ARGILLA | {"chosen_avg_rating": 4.5, "rejected_avg_rating": 2.0}, GOOD),
    (ARGILLA, GOOD),
    ({"chosen": talk("Which?", GOOD), "rejected": talk("Which?", BAD)}, GOOD),
    ({"instruction": "Which?", "chosen": GOOD, "rejected": BAD}, GOOD),
    ({"instruction": "Which?", "response_a": GOOD, "response_b": BAD, "label": "b"}, BAD),
    ({"chosen": DIALOGUE + GOOD, "rejected": DIALOGUE + BAD}, GOOD),
]


def converted(tmp_path, rows, **settings):
    convert(lines(tmp_path / "t.jsonl", rows), tmp_path / "o.parquet", ties="soft", **settings)
    return pd.read_parquet(tmp_path / "o.parquet")


@pytest.mark.parametrize(("row", "preferred"), MEANINGS)
def test_a_label_means_the_same_in_every_command(row, preferred, tmp_path):
    """annotate.py and the test table of align.py read with `convert`, run.py with `read_pairs`."""
    pair = converted(tmp_path, [row]).iloc[0]
    assert pair["target"] == 0.5 if preferred is None else True
    frame, drops = read_pairs(source(tmp_path / "t.jsonl"), seed=0)
    if preferred is None:
        assert pair["n_votes"] == 1 and (len(frame), drops["ties"]) == (0, 1)
        return
    best = pair["response_a"] if pair["target"] == 1 else pair["response_b"]
    (one,) = frame.to_dict("records")
    assert best.strip() == one[f"response_{one['human_label']}"].strip() == preferred
    assert "Which?" in pair["prompt"] and one["prompt"] == pair["prompt"]


def test_of_several_generations_the_order_of_the_row_stays():
    layout = layout_of(frozenset(["instruction", "generations", "ratings"]))
    row = layout.compute(rated(1, 3, 5, texts=("w", "x", "y")))
    assert row == {"response_a": "w", "response_b": "y", "label": "b"}
    assert layout.compute(rated(5, 3, 1, texts=("w", "x", "y")))["label"] == "a"


@pytest.mark.parametrize(
    ("row", "reason"), [(rated(1, None), "fewer_than_2_ratings"), (scored(1, 2), "scores_contradict")]
)
def test_rows_that_say_no_preference_are_counted(row, reason, tmp_path):
    path = lines(tmp_path / "t.jsonl", [{**row, "prompt": "x"}, row])
    with pytest.raises(InputError, match=rf"none of 2 rows can be used \({reason} 2 \(row 1, 2\)\)"):
        convert(path, tmp_path / "o.parquet")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (arena("gpt-4"), "row 1 ('gpt-4') has a label that names no response; write"),
        (arena(1), "row 1 (1) has a label that is a number or true/false"),
        (shp(2), "row 1 (2) has a label that names no response; where 1 and 2 are the responses, write"),
        (arena_55k(1, 1, 0), "row 1 has 1 in none or several of winner_model_a"),
        (rated(1, 2, 3), "row 1 has generations and ratings that are not lists of equal length"),
        (rated("good", "bad"), "row 1 (['good', 'bad']) has ratings that are not numbers"),
    ],
)
def test_labels_that_a_layout_does_not_have_are_refused(row, said, tmp_path):
    with pytest.raises(InputError) as refused:
        convert(lines(tmp_path / "t.jsonl", [row]), tmp_path / "o.parquet")
    assert said in str(refused.value)


# --- labels whose meaning is open ---------------------------------------------------------------------------------

FOREIGN = {"question": "Which?", "one": GOOD, "two": BAD, "pick": 1}
NAMES = {"prompt": "question", "response_a": "one", "response_b": "two", "label": "pick"}


@pytest.mark.parametrize("pick", [1, 0, 1.0, True, "1", "false"])
def test_a_number_in_renamed_columns_is_asked_about(pick, tmp_path):
    path = lines(tmp_path / "t.jsonl", [FOREIGN | {"pick": pick}])
    for read, at in (
        (lambda: convert(path, tmp_path / "o.parquet", NAMES), ""),
        (lambda: read_pairs(source(path, columns=NAMES), 0), "data."),
    ):
        with pytest.raises(InputError) as refused:
            read()
        (line,) = refused.value.problems
        assert f"row 1 ({pick!r}) has a label that is a number or true/false" in line
        assert f"set {at}positive=a" in line


@pytest.mark.parametrize(("positive", "best"), [("a", GOOD), ("b", BAD)])
def test_positive_answers_it_in_every_command(positive, best, tmp_path):
    (pair,) = converted(tmp_path, [FOREIGN], columns=NAMES, positive=positive).to_dict("records")
    assert (pair["response_a"] if pair["target"] else pair["response_b"]) == best
    data = source(tmp_path / "t.jsonl", columns=NAMES, positive=positive)
    (one,) = read_pairs(data, 0)[0].to_dict("records")
    assert one[f"response_{one['human_label']}"] == best


def test_positive_is_a_or_b(tmp_path):
    with pytest.raises(InputError, match="positive=1 must be a or b, the response that a label of 1 or true prefers"):
        convert(lines(tmp_path / "t.jsonl", [FOREIGN]), tmp_path / "o.parquet", NAMES, positive="1")


def test_columns_that_contradict_a_layout_leave_its_meaning_open(tmp_path):
    swapped = {"prompt": "history", "response_a": "human_ref_B", "response_b": "human_ref_A", "label": "labels"}
    have = frozenset(shp(1))
    assert layout_of(have, frozenset(swapped.items())) is OWN
    assert layout_of(have, frozenset([("domain", "d")])).name == "Stanford SHP"
    with pytest.raises(InputError, match="set positive=a"):
        converted(tmp_path, [shp(1)], columns=swapped)


def test_every_layout_fits_its_own_columns_first():
    for layout in LAYOUTS:
        have = frozenset([*layout.columns.values(), *layout.more])
        assert layout_of(have).name == layout.name


# --- names of classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize(("names", "targets"), [(["a", "b"], [1.0, 0.0]), (["b", "a"], [0.0, 1.0])])
def test_the_names_of_a_class_label_are_its_meaning(kind, names, targets, tmp_path):
    import datasets

    rows = [{"prompt": f"p{i}", "response_a": GOOD, "response_b": BAD, "label": i % 2} for i in range(2)]
    table = datasets.Dataset.from_list([*rows, {**rows[0], "prompt": "p2", "label": -1}])
    table = table.cast_column("label", datasets.ClassLabel(names=names))
    path = tmp_path / ("saved" if kind == "folder" else "t.parquet")
    table.save_to_disk(path) if kind == "folder" else table.to_parquet(path)
    convert(str(path), tmp_path / "o.parquet")
    pairs = pd.read_parquet(tmp_path / "o.parquet")
    assert pairs["target"][:2].tolist() == targets and pairs["n_votes"].tolist() == [1, 1, 0]


def test_a_csv_of_pandas_means_what_the_same_frame_does_elsewhere(tmp_path):
    rows = [
        {"prompt": f"p{i}", "response_a": "x", "response_b": "y", "label": i % 2 if i < 6 else None} for i in range(8)
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "t.csv", index=False)  # 0.0, 1.0 and nothing
    frame.to_parquet(tmp_path / "t.parquet")
    lines(tmp_path / "t.jsonl", rows)
    read = []
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        convert(str(tmp_path / name), tmp_path / "o.parquet")
        read.append(pd.read_parquet(tmp_path / "o.parquet")["target"].fillna(-1).tolist())
    assert read[0] == read[1] == read[2] == [1, 0, 1, 0, 1, 0, -1, -1]
