"""The paper's data sets in their published files: rows, splits, counts; on HH-RLHF's own test files too."""

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paper_copies
import pytest
from data.test_sources import Words, chosen, load
from data.test_sources import source as own
from omegaconf import OmegaConf

from cwpo.commands.run import against_paper
from cwpo.data.dialogues import cut_to_first_turn, turns
from cwpo.data.hub import LAYOUTS, patterns, split_files
from cwpo.data.layouts import SHP
from cwpo.data.lengths import token_counts
from cwpo.data.sources import drop_unusable, read_pairs
from cwpo.errors import InputError


def source(path: Path, layout: str, folders=(), **changes) -> SimpleNamespace:
    columns = SHP if layout == "shp" else {}
    return own(path, source="hub", name=layout, layout=layout, folders=list(folders), columns=columns, **changes)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return paper_copies.published_folder(tmp_path_factory.mktemp("published"), train=20, test=5)


ALL = [
    ("hh_rlhf", ["harmless-base"], "Human: what can you tell me about bread, part 0?\n\nAssistant:"),
    ("tldr", [], "POST: I asked and asked, 0 times.\nTL;DR:"),
    ("ufb", [], "\n\nHuman: what can you tell me about bread, part 0?\n\nAssistant:"),
    ("shp", ["askacademia"], "\n\nHuman: what can you tell me about bread, part 0?\n\nAssistant:"),
]


@pytest.mark.parametrize(("layout", "folders", "prompt"), ALL, ids=[a[0] for a in ALL])
def test_each_layout_gives_prompts_responses_labels_and_its_own_test_split(published, layout, folders, prompt):
    frame, drops = read_pairs(source(published, layout, folders), seed=0)
    assert drops["read"] == sum(drops.values()) == 25
    assert frame["prompt"][0].endswith(prompt)
    assert frame["test"].tolist() == [False] * 20 + [True] * 5
    assert chosen(frame) == [f" {paper_copies.good(i)}" for i in range(25)]
    assert set(frame["human_label"]) == {"a", "b"}
    pairs = load(source(published, layout, folders))
    assert sorted(pairs.loc[pairs["split"] == "test", "prompt"]) == sorted(frame["prompt"][20:])
    assert pairs.attrs["kept"] == {"train": 20, "test": 5}
    assert set(pairs["domain"]) == {(folders or [layout])[0]}


def test_both_subsets_of_hh_are_one_data_set(published):
    frame, drops = read_pairs(source(published, "hh_rlhf", ["harmless-base", "helpful-base"]), seed=0)
    assert drops["read"] == 50 and frame["test"].sum() == 10
    assert frame["domain"].value_counts().to_dict() == {"harmless-base": 25, "helpful-base": 25}


def test_the_parts_of_a_big_split_are_read_in_order(tmp_path):
    rows = paper_copies.chat_rows(0, 9)
    for part in range(3):
        name = f"train_prefs-{part:05d}-of-00003.parquet"
        paper_copies.write_parquet(tmp_path / "data" / name, rows[3 * part : 3 * part + 3])
    paper_copies.write_parquet(tmp_path / "data" / "test_prefs-00000-of-00001.parquet", rows[:2])
    paper_copies.write_parquet(tmp_path / "data" / "train_sft-00000-of-00001.parquet", rows)  # not ours
    frame, drops = read_pairs(source(tmp_path, "ufb"), seed=0)
    assert drops["read"] == 11
    assert chosen(frame)[:9] == [f" {paper_copies.good(i)}" for i in range(9)]


def test_a_split_that_is_missing_is_named(tmp_path):
    paper_copies.write_lines(tmp_path / "harmless-base" / "train.jsonl.gz", paper_copies.hh_rows(0, 3))
    with pytest.raises(InputError, match="has no split harmless-base/test"):
        read_pairs(source(tmp_path, "hh_rlhf", ["harmless-base"]), seed=0)


def test_a_data_set_that_cannot_be_had_is_an_error(monkeypatch):
    with pytest.raises(InputError, match="data.path=no/such is neither a local folder nor a data set"):
        read_pairs(source(Path("no/such"), "hh_rlhf", ["harmless-base"]), seed=0)


def test_only_the_splits_in_use_are_fetched():
    from fnmatch import fnmatch

    def fetched(name: str, layout: str, folder: str | None = None) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns(folder, LAYOUTS[layout]))

    assert fetched("harmless-base/train.jsonl.gz", "hh_rlhf", "harmless-base")
    assert not fetched("helpful-base/train.jsonl.gz", "hh_rlhf", "harmless-base")
    assert fetched("data/test_prefs-00000-of-00001.parquet", "ufb")
    assert not fetched("data/train_sft-00000-of-00001.parquet", "ufb")
    assert fetched("data/valid1-00000-of-00001-b647616a2be5f333.parquet", "tldr")
    assert not fetched("data/valid2-00000-of-00001-2655c5b3621b6116.parquet", "tldr")


def test_splits_whose_names_begin_alike_are_told_apart(tmp_path):
    for name in ("train-00000-of-00001-3cbd295cedeecf91.parquet", "train_prefs-00000-of-00001.parquet"):
        (tmp_path / name).touch()
    assert [f.name for f in split_files(tmp_path, None, "train")] == ["train-00000-of-00001-3cbd295cedeecf91.parquet"]


# --- which test pairs stay -------------------------------------------------------------------------------------------


def repeated(folder: Path) -> Path:
    """Ten training posts; test pairs of two of them, and three of one new post."""
    rows = paper_copies.summary_rows(0, 10)
    again = [row | {"chosen": f"TL;DR: another of {i}"} for i, row in enumerate(rows[:2])]
    new = [paper_copies.summary_rows(50, 1)[0] | {"chosen": f"TL;DR: new {i}"} for i in range(3)]
    new += paper_copies.summary_rows(60, 1)
    paper_copies.write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows)
    paper_copies.write_parquet(folder / "data" / "valid1-00000-of-00001.parquet", again + new)
    return folder


@pytest.mark.parametrize(
    ("rule", "test", "dropped"), [("any", 6, {}), ("unseen", 4, (2, 0)), ("unseen_once", 2, (2, 2))]
)
def test_test_prompts_are_disjoint_from_training_prompts_by_rule(tmp_path, rule, test, dropped):
    pairs = load(source(repeated(tmp_path), "tldr", test_prompts=rule))
    tested = pairs[pairs["split"] == "test"]
    assert len(tested) == test
    names, drops = ("test_prompt_in_training", "test_prompt_repeated"), dict(pairs.attrs["drops"])
    assert {n: drops[n] for n in names if n in drops} == dict(zip(names, dropped))
    assert drops.pop("read") == len(pairs) + sum(drops.values()) == 16
    if rule != "any":
        assert not set(tested["prompt"]) & set(pairs.loc[pairs["split"] != "test", "prompt"])


def test_test_pairs_are_drawn_from_the_published_test_split(published):
    ids = {
        seed: set(load(source(published, "ufb", test_pairs=3), seed=seed).query("split == 'test'")["pair_id"])
        for seed in (0, 1)
    }
    whole = set(load(source(published, "ufb")).query("split == 'test'")["pair_id"])
    assert ids[0] < whole and ids[1] < whole and len(ids[0]) == 3


# --- length rules ----------------------------------------------------------------------------------------------------


def test_the_rules_count_what_their_names_say():
    import pandas as pd

    frame = pd.DataFrame({"prompt": ["a b c", "a b c"], "response_a": [" d", " d"], "response_b": [" e f", " e f g h"]})

    def kept(rule: str, limit: int, context=None) -> list[bool]:
        masks = token_counts(frame, [Words()], limit, rule=rule, context=context)[1].values()
        return (~np.logical_or.reduce(list(masks))).tolist()

    assert kept("longer_pair", 6) == [True, False]  # 3 + 2 and EOS; 3 + 4 and EOS
    assert kept("full_texts", 5) == [True, False]  # 3 + 2; 3 + 4
    assert kept("full_texts", 7) == [True, True]
    assert kept("prompt_and_responses", 6) == [True, False]  # 3 + 1 + 2; 3 + 1 + 4
    assert kept("both_full_texts", 9) == [True, False]  # 4 + 5; 4 + 7
    assert kept("characters", 9) == [True, False]  # "a b c" and " e f", " e f g h": letters, spaces
    assert kept("full_texts", 7, context=6) == [True, False]  # whatever the rule, the models must read it


def test_counts_stand_beside_the_papers():
    data = OmegaConf.create(
        {"paper_counts": {"train": 35908, "test": 1927}, "length_rule": "full_texts", "max_tokens": 512}
    )
    (line,) = against_paper({"train": 35000, "test": 1900}, data)
    assert line.endswith("35,000 train (paper: 35,908), 1,900 test (paper: 1,927)") and "full_texts" in line
    assert against_paper(None, data) == []


@pytest.fixture(scope="session")
def gpt2(shared):
    from transformers import GPT2Tokenizer

    return GPT2Tokenizer.from_pretrained(str(shared / "tokenizers" / "gpt2-bpe"))


def real_test_split(shared: Path, folder: Path, kind: str) -> Path:
    """The real test file in both places: there is no training file here, so it stands in, and is not looked at."""
    for split in ("train", "test"):
        file = folder / f"{kind}-base" / f"{split}.jsonl.gz"
        file.parent.mkdir(exist_ok=True)
        file.symlink_to(shared / "data" / "hh-rlhf" / f"{kind}-base" / "test.jsonl.gz")
    return folder


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "read", "same_prompt", "short"), [("harmless", 2312, 2307, 2229), ("helpful", 2354, 2345, 2250)]
)
def test_the_real_test_splits_keep_the_known_numbers(shared, gpt2, tmp_path, kind, read, same_prompt, short):
    """With GPT-2's tokens, neither BOS nor EOS counted: full_texts counts the text as it stands."""
    folder = real_test_split(shared, tmp_path, kind)
    frame, drops = read_pairs(source(folder, "hh_rlhf", [f"{kind}-base"]), seed=0)
    assert (drops["read"], drops["prompts_differ"]) == (2 * read, 2 * (read - same_prompt))
    unusable = drops["empty_response"] + drops["identical_responses"]
    frame = frame[frame["test"]].reset_index(drop=True)
    assert len(frame) == same_prompt - unusable // 2
    masks = token_counts(frame, [gpt2], 512, rule="full_texts")[1]
    assert int((~np.logical_or.reduce(list(masks.values()))).sum()) == short - unusable // 2  # which are all short
    usable, more = drop_unusable(frame)
    assert len(usable) == len(frame) - sum(more.values())


@pytest.mark.parametrize(("kind", "short", "unusable"), [("harmless", 1926, 4), ("helpful", 1878, 6)])
def test_first_turns_of_at_most_512_characters_are_as_many_as_the_paper_kept(
    shared, gpt2, tmp_path, kind, short, unusable
):
    """The paper prints 1,927 and 1,878. A few pairs have an empty response or two equal ones, which no arm can learn from."""
    folder = real_test_split(shared, tmp_path, kind)
    frame, drops = read_pairs(source(folder, "hh_rlhf", [f"{kind}-base"], turns="first"), seed=0)
    assert drops["prompts_differ"] == 0 and drops["empty_response"] + drops["identical_responses"] == 2 * unusable
    frame = frame[frame["test"]].reset_index(drop=True)
    assert not frame["prompt"].str.contains("Assistant:.*Assistant:", regex=True).any()
    masks = token_counts(frame, [gpt2], 512, rule="characters", context=1024)[1]
    assert int((~np.logical_or.reduce(list(masks.values()))).sum()) == short - unusable
    left_out = [
        row
        for row in rows_of(folder / f"{kind}-base" / "test.jsonl.gz")
        if not row[1].strip() or not row[2].strip() or row[1] == row[2]
    ]
    assert len(left_out) == unusable and all(len(q) + max(len(a), len(b)) <= 512 for q, a, b in left_out)


def rows_of(file: Path) -> list[tuple[str, str, str]]:
    """First human turn and last responses of each line, found without the project's code."""
    rows = map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines())
    return [
        (
            re.split(r"\n\n(?:Human|Assistant):", row["chosen"])[1],
            *(row[side].split("\n\nAssistant:")[-1] for side in ("chosen", "rejected")),
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: c", "\n\nHuman: hi\n\nAssistant: c"),
        ("\n\nHuman: hi\n\nHuman: more\n\nAssistant:", "\n\nHuman: hi\n\nAssistant:"),
        ("a post\nTL;DR:", "a post\nTL;DR:"),
        (None, None),
    ],
)
def test_dialogues_are_cut_to_their_first_turn(value, expected):
    assert cut_to_first_turn(value) == expected


def test_messages_are_cut_to_their_first_turn(published):
    messages = [{"role": role, "content": c} for role, c in zip(["system", *["user", "assistant"] * 2], "sabcd")]
    assert [m["content"] for m in cut_to_first_turn(messages)] == ["a", "d"]
    assert [m["content"] for m in cut_to_first_turn(messages[:-1])] == ["a"]


# --- dialogues as turns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("\n\nHuman: hi\n\nAssistant:", [("user", "hi")]),
        (
            "\n\nHuman: hi\n\nAssistant: hello \n\nHuman: how?\n\nAssistant:",
            [("user", "hi"), ("assistant", "hello"), ("user", "how?")],
        ),
        ("\n\nHuman: one\n\nHuman: two\n\nAssistant:", [("user", "one\n\ntwo")]),
        ("a post\nTL;DR:", [("user", "a post\nTL;DR:")]),
        ("before\n\nHuman: hi\n\nAssistant:", [("user", "before\n\nHuman: hi\n\nAssistant:")]),
        ("\n\nHuman: unfinished", [("user", "Human: unfinished")]),
    ],
)
def test_prompts_as_turns(prompt, expected):
    assert [(turn["role"], turn["content"]) for turn in turns(prompt)] == expected
