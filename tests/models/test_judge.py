"""The judge behind an API: what it is asked, what its answers mean, and what happens when the endpoint misbehaves."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from endpoint import KEY, serving
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cwpo.errors import InputError
from cwpo.models.judge import ApiJudge, JudgeError, estimate, preference, read_prompt, verdict

PROMPTS = [f"\n\nHuman: ask {i}\n\nAssistant:" for i in range(4)]
GOOD = [f" good {i}" for i in range(4)]
BAD = [f" bad {i}" for i in range(4)]


def fair(question: str) -> str:
    """The better answer, wherever it stands."""
    a = re.search(r"ANSWER A\n(\w+)", question)[1]
    return f"One is better.\nVerdict: {'A' if a == 'good' else 'B'}"


def settings(tmp_path: Path, url: str | None = None, **changes) -> object:
    given = {
        "name": "openai",
        "model": "stub-1",
        "asks": "both",
        "prompt_file": None,
        "base_url": url,
        "cache": str(tmp_path / "verdicts"),
        "concurrency": 3,
        "timeout": 0.5,
        "retries": 4,
        "usd_per_million": {"input": 30.0, "output": 60.0},
        "max_usd": None,
    }
    return OmegaConf.create(given | changes)


@pytest.fixture
def endpoint(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with serving(fair) as stub:
        yield stub


# --- the rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Verdict: A", "a"),
        ("because.\n\n**Verdict: B**", "b"),
        ("verdict: tie.", "tie"),
        ("Verdict: [[A]]", "a"),
        ("Verdict: A\nsaid again\nVerdict: A", "a"),
        ("Verdict: A\nVerdict: B", None),
        ("Verdict: A or B", None),
        ("A is better", None),
        ("Verdict: C", None),
        ("My verdict: A", None),
        ("", None),
    ],
)
def test_an_answer_has_one_verdict_or_none(reply, expected):
    assert verdict(reply) == expected


@given(st.text(max_size=60))
def test_a_text_that_says_no_verdict_is_never_read_as_one(text):
    assert verdict(text.replace("erdict", "")) is None


@pytest.mark.parametrize(
    ("right", "swapped", "expected"),
    [
        ("a", "b", 1),
        ("b", "a", 0),
        ("a", "a", 0.5),
        ("b", "b", 0.5),
        ("tie", "tie", 0.5),
        ("a", "tie", 0.75),
        ("tie", "a", 0.25),
    ],
)
def test_both_orders_are_averaged(right, swapped, expected):
    assert preference(right, swapped) == expected


@pytest.mark.parametrize("answers", [(None, "b"), ("a", None), (None, None)])
def test_an_unparsable_answer_is_not_guessed(answers):
    assert math.isnan(preference(*answers))


# --- over HTTP -----------------------------------------------------------------------------------------------------


def test_it_is_asked_in_both_orders_and_kept(endpoint, tmp_path, capsys):
    config = settings(tmp_path, endpoint.url)
    api = ApiJudge(config)
    assert api.preferences(PROMPTS, GOOD, BAD).tolist() == [1, 1, 1, 1]
    assert api.preferences(PROMPTS, BAD, GOOD).tolist() == [0] * 4  # the same questions: nothing asked again
    assert endpoint.requests == 8
    assert endpoint.keys == {KEY}
    assert endpoint.most_at_once <= 3
    orders = [re.findall(r"ANSWER [AB]\n(\w+) 0", body["messages"][0]["content"]) for body in endpoint.bodies]
    assert sorted(order for order in orders if order) == [["bad", "good"], ["good", "bad"]]
    assert {(body["temperature"], body["model"]) for body in endpoint.bodies} == {(0, "stub-1")}
    assert ApiJudge(config).preferences(PROMPTS, GOOD, BAD).tolist() == [1, 1, 1, 1]
    assert endpoint.requests == 8  # another process finds them on disk
    said = capsys.readouterr().err
    assert "judge stub-1: 8 of 8 questions to ask" in said and "about $" in said
    assert ApiJudge(settings(tmp_path, endpoint.url, model="stub-2")).preferences(PROMPTS[:1], GOOD[:1], BAD[:1]) == [1]
    assert endpoint.requests == 10  # another model is another judge


def test_the_golden_question(endpoint, tmp_path):
    asked = ApiJudge(settings(tmp_path, endpoint.url)).question(
        "\n\nHuman: hi {response_a}\n\nAssistant:", " x ", " {prompt} "
    )
    assert "REQUEST\nHuman: hi {response_a}\n\nAssistant:\n\nANSWER A\nx\n\nANSWER B\n{prompt}\n\n" in asked
    assert asked.startswith("Somebody wrote the text under REQUEST") and asked.endswith("Verdict: B\nVerdict: tie\n")


def test_the_judge_is_asked_about_help_about_harm_or_about_both(tmp_path):
    asked = {
        asks: ApiJudge(settings(tmp_path, asks=asks)).question("q {question}", "x", "y")
        for asks in ("helpful", "harmless", "both")
    }
    has = {asks: ("helps that person more" in text, "does less harm" in text) for asks, text in asked.items()}
    assert has == {"helpful": (True, False), "harmless": (False, True), "both": (True, True)}
    assert all("REQUEST\nq {question}\n" in text for text in asked.values())


BUSY = ["429", "500", "503", "hang", "drop"]


@pytest.mark.parametrize("fault", BUSY)
def test_a_request_that_fails_is_sent_again(endpoint, tmp_path, fault):
    endpoint.faults = lambda question, number: fault if number == 1 else None
    preferred = ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS[:1], GOOD[:1], BAD[:1])
    assert preferred.tolist() == [1]
    assert set(endpoint.asked.values()) == {2}


@pytest.mark.parametrize("fault", ["html", "cut", "empty", "null"])
def test_an_answer_without_a_completion_fails_and_is_asked_for_again_by_the_next_command(endpoint, tmp_path, fault):
    endpoint.faults = lambda question, number: fault if number == 1 and "ANSWER A\nbad" in question else None
    with pytest.raises(
        JudgeError,
        match="the judge stub-1 gave (no|an empty) answer.* give the same command again: it asks only the open questions",
    ):
        ApiJudge(settings(tmp_path, endpoint.url, concurrency=1)).preferences(PROMPTS[:1], GOOD[:1], BAD[:1])
    preferred = ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS[:1], GOOD[:1], BAD[:1])
    assert preferred.tolist() == [1] and sorted(endpoint.asked.values()) == [1, 2]


def test_an_endpoint_that_never_answers_fails_the_stage_and_the_rest_is_kept(endpoint, tmp_path):
    endpoint.faults = lambda question, number: "500" if "ask 3" in question else None
    with pytest.raises(JudgeError, match=r"gave no answer \(InternalServerError; .* tried 3 times\)"):
        ApiJudge(settings(tmp_path, endpoint.url, retries=2, concurrency=1)).preferences(PROMPTS, GOOD, BAD)
    assert endpoint.requests == 6 + 3  # the three other pairs, and three tries
    endpoint.faults = lambda question, number: None
    assert ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS, GOOD, BAD).tolist() == [1] * 4
    assert endpoint.requests == 9 + 2  # what was still open


@pytest.mark.parametrize(("status", "fix"), [("401", "check OPENAI_API_KEY"), ("404", "check gold.model=stub-1")])
def test_a_refusal_is_not_tried_again_and_tells_no_key(endpoint, tmp_path, status, fix):
    endpoint.faults = lambda question, number: status
    with pytest.raises(JudgeError, match=fix) as refused:
        ApiJudge(settings(tmp_path, endpoint.url, concurrency=1)).preferences(PROMPTS[:1], GOOD[:1], BAD[:1])
    assert endpoint.requests == 1 and KEY not in str(refused.value)


def test_unparsable_answers_are_counted_and_leave_their_pairs_out(endpoint, tmp_path):
    endpoint.reply = lambda question: "I cannot say." if "ask 1" in question else fair(question)
    api = ApiJudge(settings(tmp_path, endpoint.url))
    found = api.preferences(PROMPTS, GOOD, BAD)
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert api.counts["judge_unparsable"] == 2 and api.counts["judge_not_judged"] == 1


@pytest.mark.parametrize("fault", ["declined", "refused"])
def test_a_question_that_the_endpoint_declines_leaves_its_pair_out_and_is_not_asked_again(endpoint, tmp_path, fault):
    endpoint.faults = lambda question, number: fault if "ask 1" in question else None
    for requests in (8, 8):
        found = ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS, GOOD, BAD)
        assert np.isnan(found).tolist() == [False, True, False, False] and endpoint.requests == requests


def test_a_judge_that_prefers_the_first_answer_says_nothing(endpoint, tmp_path):
    endpoint.reply = lambda question: "Verdict: A"
    api = ApiJudge(settings(tmp_path, endpoint.url))
    assert api.preferences(PROMPTS, GOOD, BAD).tolist() == [0.5] * 4
    assert api.counts["judge_orders_disagree"] == 4


def test_identical_responses_tie_unasked(endpoint, tmp_path):
    api = ApiJudge(settings(tmp_path, endpoint.url))
    assert api.preferences(PROMPTS[:2], ["same", "good"], ["same ", "bad"]).tolist() == [0.5, 1]
    assert endpoint.requests == 2 and api.counts["judge_identical"] == 1


# --- money and secrets ---------------------------------------------------------------------------------------------


def test_the_estimate_is_said_and_bounded_before_anything_is_asked(endpoint, tmp_path):
    api = ApiJudge(settings(tmp_path, endpoint.url, max_usd=0.001))
    with pytest.raises(InputError, match=r"gold.max_usd=0.001: 8 questions to stub-1 would cost about \$"):
        api.preferences(PROMPTS, GOOD, BAD)
    with pytest.raises(InputError, match="unknown amount.*; set it to null, or judge fewer"):
        ApiJudge(settings(tmp_path, endpoint.url, max_usd=5, usd_per_million={})).preferences(PROMPTS, GOOD, BAD)
    assert endpoint.requests == 0


def test_the_estimate_by_hand():
    assert estimate((2e6, 1e5), {"input": 30.0, "output": 60.0}) == 66.0
    assert estimate((1, 1), {"input": 30.0}) is None


def test_the_key_is_written_nowhere(endpoint, tmp_path):
    ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS, GOOD, BAD)
    files = [file for file in (tmp_path / "verdicts").rglob("*") if file.is_file()]
    assert len(files) == 8
    assert all(KEY not in file.read_text() for file in files)
    answer = json.loads(files[0].read_text())
    assert {*answer} == {"verdict", "reply", "model", "prompt_tokens", "completion_tokens"}


def test_without_a_key_it_says_what_to_set(endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="set the environment variable OPENAI_API_KEY"):
        ApiJudge(settings(tmp_path, endpoint.url)).preferences(PROMPTS, GOOD, BAD)


def test_the_endpoint_may_come_from_the_environment(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    assert ApiJudge(settings(tmp_path)).preferences(PROMPTS[:1], GOOD[:1], BAD[:1]).tolist() == [1]


# --- own questions -------------------------------------------------------------------------------------------------


def test_a_question_of_ones_own(endpoint, tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("Q {prompt}\nANSWER A\n{response_a}\nANSWER B\n{response_b}\nEnd with Verdict: A, B or tie.")
    api = ApiJudge(settings(tmp_path, endpoint.url, prompt_file=str(file)))
    assert api.preferences(PROMPTS[:1], GOOD[:1], BAD[:1]).tolist() == [1]
    assert endpoint.bodies[0]["messages"][0]["content"].startswith("Q Human: ask 0")


def test_a_question_without_its_slots_is_refused(tmp_path):
    (tmp_path / "own.txt").write_text("{prompt} {response_a}")
    with pytest.raises(InputError, match=r"lacks \{response_b\}"):
        read_prompt(str(tmp_path / "own.txt"), "both")
