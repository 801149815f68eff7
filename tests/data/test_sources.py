"""Pairs from JSON lines: three forms, honest counts, seeded sides, splits that do not leak."""

import gzip
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import TEXT, holds

from cwpo.data.dialogues import TURN
from cwpo.data.sources import COLUMNS, drop_unusable, load_pairs, pair_id, read_pairs
from cwpo.errors import InputError


def source(path, **changes) -> SimpleNamespace:
    """The data section of a configuration."""
    path = [str(p) for p in path] if isinstance(path, list) else str(path)
    fields = {"source": "jsonl", "name": "own", "path": path, "columns": {}, "folders": [], "revision": None}
    return SimpleNamespace(**fields | {"pairs": None, "test_pairs": None, "test_fraction": 0.2} | changes)


def write(file: Path, rows: list[dict]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text, encoding="utf-8")
    return file


def plain(count: int, prompts: int | None = None) -> list[dict]:
    """`count` usable pairs over `prompts` prompts (each its own where None)."""
    return [
        {"prompt": f"ask {i % (prompts or count)}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)
    ]


class Words:
    """A tokenizer that makes one token of each word."""

    eos_token_id = 0

    def __call__(self, texts, add_special_tokens=True):
        return {"input_ids": [[1] * len(text.split()) for text in texts]}


def load(data: SimpleNamespace, *, seed=0, human_fraction=0.3, holdout=0.0, max_tokens=512):
    limits = {"tokenizers": [Words()], "max_tokens": max_tokens}
    return load_pairs(SimpleNamespace(data=data, seed=seed, human_fraction=human_fraction, holdout=holdout, **limits))


def dropped(drops: dict[str, int]) -> dict[str, int]:
    """The counts that are not 0."""
    return {reason: count for reason, count in drops.items() if count}


def chosen(frame) -> list[str]:
    """The response that the human label points to."""
    return np.where(frame["human_label"] == "a", frame["response_a"], frame["response_b"]).tolist()


# --- reading ------------------------------------------------------------------------------------------------------


def test_labelled_pairs_keep_their_sides_and_ties_are_counted(tmp_path):
    rows = [{"prompt": "p", "response_a": f"x{i}", "response_b": f"y{i}", "label": "abAB"[i % 4]} for i in range(40)]
    rows += [{"prompt": "p", "response_a": "x", "response_b": "y", "label": "tie"}] * 3
    frame, drops = read_pairs(source(write(tmp_path / "pairs.jsonl", rows)), seed=0)
    assert dropped(drops) == {"read": 43, "ties": 3}
    assert frame["response_a"].tolist() == [f"x{i}" for i in range(40)]
    assert frame["human_label"].tolist() == ["a", "b"] * 20


def test_a_mapped_column_that_is_absent_is_an_error(tmp_path):
    data = source(write(tmp_path / "pairs.jsonl", plain(1)), columns={"prompt": "question"})
    with pytest.raises(InputError, match=r"pairs.jsonl has no column question \(data.columns.prompt\)"):
        read_pairs(data, seed=0)


def test_several_files_are_read_in_order_under_the_name_of_the_data_set(tmp_path):
    files = [write(tmp_path / "kind" / "test.jsonl.gz", plain(2)), write(tmp_path / "helpful.jsonl", plain(3))]
    frame, drops = read_pairs(source(files, name="mine"), seed=0)
    assert drops["read"] == 5 and set(frame["domain"]) == {"mine"}


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("\ufeff" + json.dumps(plain(1)[0]) + "\n\n  \n" + json.dumps(plain(2)[1]), encoding="utf-8")
    _, drops = read_pairs(source(file), seed=0)
    assert drops["read"] == 2


def test_rows_without_one_of_the_texts_are_counted(tmp_path):
    rows = [*plain(3), {"prompt": "p", "chosen": "x"}, {"prompt": "p", "chosen": None, "rejected": "x"}]
    rows += [{"chosen": "x", "rejected": "y"}, {"prompt": None, "chosen": "x", "rejected": "y"}]
    frame, drops = read_pairs(source(write(tmp_path / "pairs.jsonl", rows)), seed=0)
    counts = {"missing_rejected": 1, "missing_chosen": 1, "missing_prompt": 2}
    assert (len(frame), dropped(drops)) == (3, {"read": 7, **counts})


def test_a_pair_without_a_label_is_refused(tmp_path):
    rows = [{"prompt": "p", "response_a": f"x{i}", "response_b": "y"} | ({"label": "a"} if i else {}) for i in range(3)]
    with pytest.raises(InputError, match="row 1 has no label; a run needs one for every pair"):
        read_pairs(source(write(tmp_path / "pairs.jsonl", rows)), seed=0)


@pytest.mark.parametrize("bad", [" ", "same"])
def test_a_dropped_pair_does_not_change_the_sides_of_the_others(tmp_path, bad):
    rows = [row | ({"rejected": "same"} if i % 3 == 0 else {}) for i, row in enumerate(plain(60))]
    worse = [row | ({"chosen": bad} if i % 3 == 0 else {}) for i, row in enumerate(rows)]
    frames = [
        read_pairs(source(write(tmp_path / f"{len(kind)}{i}.jsonl", kind)), 0)[0].set_index("prompt")
        for i, kind in enumerate((rows, worse))
    ]
    assert len(frames[1]) == 40
    assert frames[0].loc[frames[1].index, "human_label"].tolist() == frames[1]["human_label"].tolist()


def test_sides_are_random_unbiased_and_follow_the_seed(tmp_path):
    data = source(write(tmp_path / "pairs.jsonl", plain(2000)))
    labels = [read_pairs(data, seed)[0]["human_label"] for seed in (0, 0, 1)]
    share = (labels[0] == "a").mean()
    assert abs(share - 0.5) < 4 * 0.5 / 2000**0.5
    assert labels[0].tolist() == labels[1].tolist()
    assert 0.4 < (labels[0] == labels[2]).mean() < 0.6


def test_pair_id_depends_on_content_not_on_sides(tmp_path):
    data = source(write(tmp_path / "pairs.jsonl", plain(50)))
    ids = [drop_unusable(read_pairs(data, seed)[0])[0]["pair_id"].tolist() for seed in (0, 1)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 50
    assert pair_id("p", "x", "y") == pair_id("p", "y", "x") != pair_id("p", "x", "z")
    assert pair_id("p", "x", "y") != pair_id("px", "", "y")


# --- dropping -----------------------------------------------------------------------------------------------------


def test_every_dropped_row_is_counted_by_its_reason(tmp_path):
    rows = plain(20)
    rows += [{"prompt": "p", "chosen": "  \n", "rejected": "x"}, {"prompt": "p", "chosen": "x", "rejected": ""}]
    rows += [{"prompt": "p", "chosen": "same", "rejected": "same"}]
    rows += [
        plain(1)[0],
        {"prompt": "ask 1", "chosen": "bad 1", "rejected": "good 1"},
    ]  # repeats, one the other way round
    rows += [
        {"prompt": "long " * 12, "chosen": "x", "rejected": "y"},
        {"prompt": "p", "chosen": "long " * 9, "rejected": "y"},
    ]
    pairs = load(source(write(tmp_path / "pairs.jsonl", rows)), max_tokens=10)
    assert pairs.attrs["drops"] == {
        "read": 27,
        "prompts_differ": 0,
        "ties": 0,
        "empty_response": 2,
        "identical_responses": 1,
        "repeated": 2,
        "prompt_too_long": 1,
        "empty_prompt": 0,
        "too_long": 1,
        "beyond_data_pairs": 0,
    }
    assert len(pairs) == 20


@pytest.mark.parametrize("pairs_wanted", [None, 30])
@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_read_is_kept_plus_held_out_plus_dropped(tmp_path, pairs_wanted, holdout):
    rows = [*plain(80, prompts=40), {"prompt": "p", "chosen": "", "rejected": "x"}]
    pairs = load(source(write(tmp_path / "pairs.jsonl", rows), pairs=pairs_wanted), holdout=holdout)
    drops = dict(pairs.attrs["drops"])
    assert drops.pop("read") == len(pairs) + len(pairs.attrs["held_out"]) + sum(drops.values()) == 81


def test_a_prompt_without_a_token_is_dropped_and_counted(tmp_path):
    rows = [*plain(20), {"prompt": "", "chosen": "three four five", "rejected": "x"}]
    pairs = load(source(write(tmp_path / "pairs.jsonl", rows)))
    assert "" not in set(pairs["prompt"])
    assert pairs.attrs["drops"]["empty_prompt"] == 1 and pairs.attrs["drops"]["too_long"] == 0


# --- splitting ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared_prompts(tmp_path) -> Path:
    """200 pairs over 50 prompts."""
    return write(tmp_path / "pairs.jsonl", plain(200, prompts=50))


def ids(pairs, split: str) -> set[str]:
    return set(pairs.loc[pairs["split"] == split, "pair_id"])


def test_table_has_the_columns_of_the_contract(shared_prompts):
    pairs = load(source(shared_prompts))
    assert list(pairs.columns) == COLUMNS
    assert set(pairs["split"]) == {"labeled", "unlabeled", "test"}
    assert pairs["pair_id"].is_unique


def test_test_prompts_are_seen_in_no_training_pair(shared_prompts):
    pairs = load(source(shared_prompts), holdout=0.25)
    test = set(pairs.loc[pairs["split"] == "test", "prompt"])
    train = set(pairs.loc[pairs["split"] != "test", "prompt"]) | set(pairs.attrs["held_out"]["prompt"])
    assert test
    assert test & train == set()
    assert (pairs["split"] == "test").sum() == 40  # a fifth, in whole prompts of four


def test_labeled_sets_of_growing_fraction_contain_each_other(shared_prompts):
    labeled = [ids(load(source(shared_prompts), human_fraction=f), "labeled") for f in (0.1, 0.3, 0.5, 0.9)]
    assert [len(part) for part in labeled] == [16, 48, 80, 144]  # of 160 training pairs
    assert labeled[0] < labeled[1] < labeled[2] < labeled[3]


def test_the_test_split_does_not_depend_on_the_fraction(shared_prompts):
    tests = [ids(load(source(shared_prompts), human_fraction=f), "test") for f in (0.1, 0.9)]
    assert tests[0] == tests[1]


def test_gold_hold_out_is_in_no_split(shared_prompts):
    pairs = load(source(shared_prompts), holdout=0.25)
    held_out = set(pairs.attrs["held_out"]["pair_id"])
    assert len(held_out) == 40
    assert held_out & set(pairs["pair_id"]) == set()
    assert set(pairs.attrs["held_out"]["split"]) == {"gold"}


def test_split_follows_the_seed(shared_prompts):
    first, again, other = (ids(load(source(shared_prompts), seed=seed), "labeled") for seed in (0, 0, 1))
    assert first == again != other


def test_pairs_and_test_pairs_set_the_sizes(shared_prompts):
    pairs = load(source(shared_prompts, pairs=50, test_pairs=20))
    assert (pairs["split"] == "test").sum() == 20
    assert (pairs["split"] != "test").sum() == 50


def test_too_few_pairs_in_a_split_is_an_error_that_counts(tmp_path):
    rows = [*plain(5), {"prompt": "p", "chosen": "", "rejected": "x"}]
    with pytest.raises(
        InputError, match=r"at least 2 pairs, but labeled has 1, test has 1 \(rows: read 6, empty_response 1\)"
    ):
        load(source(write(tmp_path / "pairs.jsonl", rows)))


# --- properties ---------------------------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=25)


def read_rows(rows: list[dict], name: str, seed: int = 0):
    with tempfile.TemporaryDirectory() as folder:
        return read_pairs(source(write(Path(folder) / name, rows)), seed)


@holds(PAIRS, st.sampled_from(["p.jsonl", "p.jsonl.gz"]), st.integers(0, 3))
def test_reading_keeps_every_character_and_every_row(triples, name, seed):
    rows = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in triples]
    frame, drops = read_rows(rows, name, seed)
    usable = [(p, c, r) for p, c, r in triples if c.strip() and r.strip() and c != r]
    assert drops["read"] == len(triples) and len(frame) == len(usable)
    assert frame["prompt"].tolist() == [p for p, _, _ in usable]
    assert chosen(frame) == [c for _, c, _ in usable]
    others = np.where(frame["human_label"] == "a", frame["response_b"], frame["response_a"]).tolist()
    assert others == [r for _, _, r in usable]


@holds(PAIRS)
def test_dialogues_come_apart_where_they_were_joined(triples):
    triples = [t for t in triples if not any("Assistant:" in text for text in t)]
    rows = [{"chosen": f"{p}{TURN}{c}", "rejected": f"{p}{TURN}{r}"} for p, c, r in triples]
    if rows:
        frame, drops = read_rows(rows, "p.jsonl")
        usable = [(p, c) for p, c, r in triples if c.strip() and r.strip() and c != r]
        assert drops["read"] == len(rows) and not drops["prompts_differ"]
        assert frame["prompt"].tolist() == [p + TURN for p, _ in usable]
        assert chosen(frame) == [c for _, c in usable]


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subset", "read", "differ", "empty", "identical"),
    [("harmless-base", 2312, 5, 4, 0), ("helpful-base", 2354, 9, 4, 2)],
)
def test_hh_rlhf_counts(shared, subset, read, differ, empty, identical):
    data = source(shared / "data" / "hh-rlhf" / subset / "test.jsonl.gz")
    frame, drops = read_pairs(data, seed=0)
    kept, more = drop_unusable(frame)
    wanted = {"read": read, "prompts_differ": differ, "empty_response": empty, "identical_responses": identical}
    assert dropped(drops) == {reason: count for reason, count in wanted.items() if count}
    assert not any(more.values())
    assert len(kept) == read - differ - empty - identical
    assert frame["prompt"].str.endswith(TURN).all()


def test_labelled_arguments_with_ties(shared):
    file = shared / "data" / "ukpconvarg1_dev.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    labels = [row["label"] for row in rows if row["response_a"] != row["response_b"]]
    frame, drops = read_pairs(source(file), seed=0)
    assert drops["read"] == len(rows) == len(labels) + drops["identical_responses"] == 10441
    assert drops["ties"] == labels.count("tie") > 2000
    assert frame["human_label"].tolist() == [label for label in labels if label != "tie"]


def test_first_turns_are_cut_from_messages_as_json_text_too(tmp_path):
    messages = [{"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "x"), ("user", "z"))]
    for form in (list, json.dumps):
        data = source(
            write(tmp_path / "m.jsonl", [{"prompt": form(messages), "chosen": "a", "rejected": "b"}]), turns="first"
        )
        frame, _ = read_pairs(data, seed=0)
        assert frame["prompt"].tolist() == ["\n\nHuman: q\n\nAssistant:"]
