"""Conversations: where the prompt ends, and that tables written by one command are read by the others."""

import json

import pytest
from data.test_own import lines

from cwpo.data.own_texts import pair_texts
from cwpo.data.rows import PairReader, read_prompts
from cwpo.errors import LeftOut
from cwpo.own.weighted import read_weighted

SIDES = ("chosen", "rejected")


def said(*contents, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ("hi", said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no")),  # UltraFeedback's layout
        (said("hi"), said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no")),
        (said("hi"), said("yes", "why?", "so", first="assistant"), said("yes", "why?", "no", first="assistant")),
        (said("hi", "yes", "why?"), said("why?", "so"), said("why?", "no")),
        (None, said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no")),
        ("why?", said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no")),
        (said("why?"), said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no")),
    ],
)
def test_no_message_between_prompt_and_responses_is_lost(prompt, chosen, rejected):
    texts = pair_texts(prompt, chosen, rejected, SIDES)
    assert texts[:3] == ("\n\nHuman: hi\n\nAssistant: yes\n\nHuman: why?\n\nAssistant:", " so", " no")


@pytest.mark.parametrize("prompt", ["hi", said("hi")])
def test_a_system_message_before_the_responses_alone_is_kept(prompt):
    polite, rude = ({"role": "system", "content": tone} for tone in ("be polite", "be rude"))
    sides = [[polite, *said(answer, first="assistant")] for answer in ("yes", "no")]
    for given in (prompt, [polite, *said("hi")]):  # a prompt may have the message too
        assert json.loads(pair_texts(given, *sides, SIDES).messages) == [polite, *said("hi")]
    with pytest.raises(LeftOut, match="prompts_differ"):
        pair_texts([rude, *said("hi")], *sides, SIDES)


@pytest.mark.parametrize("prompt", [None, "", "why?", "\n\nHuman: hi\n\nAssistant: yes\n\nHuman: why?\n\nAssistant:"])
def test_texts_that_repeat_the_whole_prompt_give_it_once(prompt):
    head = "\n\nHuman: hi\n\nAssistant: yes\n\nHuman: why?\n\nAssistant:"
    assert pair_texts(prompt, f"{head} so", f"{head} no", SIDES)[:3] == (head, " so", " no")
    assert pair_texts("why?", "why? so", "why? no", SIDES)[:3] == ("why?", "why? so", "why? no")  # an answer may


def test_a_prompt_that_the_conversations_contradict_leaves_the_pair_out():
    with pytest.raises(LeftOut, match="prompts_differ"):
        pair_texts("other", said("hi", "yes", "why?", "so"), said("hi", "yes", "why?", "no"), SIDES)


def test_responses_of_several_turns_are_read_back(tmp_path):
    rows = [
        {
            "prompt": said("hi"),
            "chosen": said("a", "b", "c", first="assistant"),
            "rejected": said("no", first="assistant"),
        }
    ]
    reader = PairReader(lines(tmp_path / "own.jsonl", rows))
    ((_, pair, _, _),) = reader.read(enumerate(rows, 1))
    prompt, chosen, rejected, messages = pair.texts
    table = [{"prompt": prompt, "chosen": chosen, "rejected": rejected, "messages": messages, "weight": 0.5}]
    back, _ = read_weighted(lines(tmp_path / "weighted.jsonl", table))
    assert (
        back[["prompt", *SIDES]].to_numpy().tolist() == [[prompt, chosen, rejected]]
        and chosen == " a\n\nHuman: b\n\nAssistant: c"
    )


def test_prompts_are_read_from_a_table_with_pairs_that_cannot_be_used(tmp_path):
    rows = [
        {"chosen": said("hi", "a"), "rejected": said("hi", "b")},
        {"chosen": said("hi", "a"), "rejected": said("hi", "a")},
    ]
    assert list(read_prompts(lines(tmp_path / "own.jsonl", rows), "prompt")) == [said("hi")]
