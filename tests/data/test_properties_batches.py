"""Splits and batches of any pairs: nothing leaks, nothing is lost, and a packed pair is read as two plain sequences are."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from data.test_sources import source
from hypothesis import strategies as st
from properties import TEXT, holds, tried
from tiny import tiny_tokenizer

from cwpo.data.batching import (
    IGNORED,
    Budget,
    MicroBatches,
    PairCollator,
    SequenceCollator,
    encode,
    encode_pairs,
    fill_budget,
)
from cwpo.data.packing import pack_pairs
from cwpo.data.splits import assign_splits

FRACTION = st.floats(0, 1, exclude_min=True, exclude_max=True)
# Token ids of which some equal the padding and the EOS.
IDS = st.lists(st.integers(0, 5), max_size=12)
PAIR = st.tuples(IDS.filter(len), IDS, IDS)
PAIRS = st.lists(PAIR, min_size=1, max_size=7)
TOKENIZER = tiny_tokenizer()


def row(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict:
    start = len(prompt)
    return {
        "chosen_ids": [*prompt, *chosen, 2],
        "chosen_start": start,
        "rejected_ids": [*prompt, *rejected, 2],
        "rejected_start": start,
    }


@holds(
    prompts=st.lists(st.integers(0, 9), max_size=50) | st.lists(st.just(0), max_size=20),
    human=FRACTION,
    unlabeled=st.none() | FRACTION,
    holdout=st.just(0.0) | FRACTION,
    wanted=st.none() | st.integers(0, 40),
    test=st.tuples(st.none() | st.integers(0, 30), FRACTION),
    seed=st.integers(0, 3),
)
def test_no_prompt_is_tested_that_was_trained_on(prompts, human, unlabeled, holdout, wanted, test, seed):
    frame = pd.DataFrame({"prompt": [f"p{i}" for i in prompts], "pair_id": [f"{i:x}" for i in range(len(prompts))]})
    data = source("unused", pairs=wanted, test_pairs=test[0], test_fraction=test[1])
    cfg = SimpleNamespace(data=data, seed=seed, human_fraction=human, unlabeled_fraction=unlabeled, holdout=holdout)
    made, refused = tried(assign_splits, frame, cfg, {})
    if refused:
        assert "every split needs at least 2 pairs" in str(refused)
        return
    pairs, held_out = made
    names = [*pairs["pair_id"], *held_out["pair_id"]]
    assert len(names) == len(set(names)) and set(names) <= set(frame["pair_id"])
    assert set(pairs["split"]) == {"labeled", "unlabeled", "test"} and pairs["split"].value_counts().min() >= 2
    train = set(pairs.loc[pairs["split"] != "test", "prompt"]) | set(held_out["prompt"])
    assert not train & set(pairs.loc[pairs["split"] == "test", "prompt"])
    again, _ = assign_splits(frame, cfg, {})
    assert again.equals(pairs)


@holds(PAIRS)
def test_padded_batches_hold_every_token_and_learn_from_responses_only(triples):
    rows = [row(*triple) | {"pair_id": f"p{i}", "weight": i / 7} for i, triple in enumerate(triples)]
    batch = PairCollator(0, floats=("weight",))(rows)
    size = len(rows)
    assert batch["pair_id"] == [f"p{i}" for i in range(size)]
    assert batch["weight"].tolist() == torch.tensor([i / 7 for i in range(size)]).tolist()
    for i, (prompt, chosen, rejected) in enumerate(triples):
        for at, response in ((i, chosen), (i + size, rejected)):
            mask, labels = batch["attention_mask"][at].bool(), batch["labels"][at]
            assert batch["input_ids"][at][mask].tolist() == [*prompt, *response, 2]
            assert labels[labels != IGNORED].tolist() == [*response, 2]
            assert (labels[~mask] == IGNORED).all()
            assert (mask.int().diff() <= 0).all()  # padding is on the right


@holds(PAIRS, st.sampled_from([0.0, 2.0]))
def test_packed_pairs_see_what_two_plain_sequences_see(triples, full):
    """From every response token back: the tokens its predictor may look at, in the order of their positions, are its prefix."""
    batch = pack_pairs([row(*triple) for triple in triples], full)
    ids, positions = batch["packed_ids"].flatten(), batch["position_ids"].flatten()
    seen = batch["attention"][:, 0]
    width = seen.shape[-1]
    slot = batch.get("slot", torch.arange(len(ids)))
    token = batch.get("token", torch.arange(len(ids)))
    assert token[slot].tolist() == list(range(len(ids)))
    for number in range(2 * len(triples)):
        prompt, chosen, rejected = triples[number % len(triples)]
        whole = [*prompt, *(chosen if number < len(triples) else rejected), 2]
        places = (batch["sequence"] == number).nonzero().flatten().tolist()
        assert batch["target"][places].tolist() == whole[len(prompt) :]
        for step, at in enumerate([*batch["predictor"][places].tolist(), int(batch["last"][number])]):
            line, column = divmod(int(slot[at]), width)
            visible = token[line * width + seen[line, column].nonzero().flatten()]
            order = positions[visible].argsort()
            assert positions[visible][order].tolist() == list(range(len(prompt) + step))
            assert ids[visible][order].tolist() == whole[: len(prompt) + step]
    assert seen.any(-1).all()  # padding looks at itself: no softmax over nothing


@holds(PAIRS, st.integers(1, 60), st.booleans())
def test_parts_of_a_batch_are_the_batch(triples, budget, packed):
    rows = [row(*triple) | {"pair_id": f"p{i}"} for i, triple in enumerate(triples)]
    collator = PairCollator(0, packed=packed)
    parts = MicroBatches(collator, Budget(budget))(rows)["micro"]
    named = [name for part in parts for name in part["pair_id"]]
    assert sorted(named) == sorted(f"p{i}" for i in range(len(rows)))
    for part in parts:
        sizes = [collator.tokens(rows[int(name[1:])]) for name in part["pair_id"]]
        assert len(sizes) == 1 or len(sizes) * max(sizes) <= budget


@holds(st.lists(st.integers(0, 10**6), max_size=40), st.integers(1, 10**6))
def test_a_budget_is_kept_by_every_batch_of_more_than_one(lengths, budget):
    batches = fill_budget(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in batches)


@holds(st.lists(st.tuples(TEXT, TEXT | st.just("good bread </s>"), TEXT), max_size=6))
def test_any_text_becomes_tokens_that_end_once(triples):
    prompts, chosen, rejected = (list(column) for column in zip(*triples, strict=True)) if triples else ([], [], [])
    rows = encode_pairs(TOKENIZER, prompts, chosen, rejected, weight=np.arange(len(prompts)))
    assert len(rows) == len(triples)
    for made, (ids, start) in zip(rows, encode(TOKENIZER, prompts, chosen), strict=True):
        assert made["chosen_ids"] == ids and made["chosen_start"] == made["rejected_start"] == start >= 1
        assert made["chosen_ids"][:start] == made["rejected_ids"][:start]
        for side in ("chosen_ids", "rejected_ids"):
            tail = made[side][start:]
            assert tail[-1] == TOKENIZER.eos_token_id and tail[-2:] != [TOKENIZER.eos_token_id] * 2


@holds(st.lists(st.tuples(IDS.filter(len), st.integers(0, 12)), min_size=1, max_size=6), st.integers(0, 5))
def test_sequences_are_padded_with_any_token(sequences, pad):
    rows = [{"ids": ids, "start": min(start, len(ids))} for ids, start in sequences]
    batch = SequenceCollator(pad)(rows)
    for at, made in enumerate(rows):
        mask = batch["attention_mask"][at].bool()
        assert batch["input_ids"][at][mask].tolist() == made["ids"]
        assert (
            batch["labels"][at].tolist()[: len(made["ids"])] == [IGNORED] * made["start"] + made["ids"][made["start"] :]
        )
        assert (batch["input_ids"][at][~mask] == pad).all() and (batch["labels"][at][~mask] == IGNORED).all()
