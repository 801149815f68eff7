"""The true ("gold") reward of a response, computed from its text alone."""

import re
from collections.abc import Iterable

import numpy as np

from cwpo.data.toy.sentences import ACTS, HARMFUL_REQUESTS, REQUESTS
from cwpo.data.toy.topics import TOPICS

# Kind of a sentence -> its worth. Kinds in `_harmful` are those of responses to harmful requests.
POINTS: dict[str, float] = {
    "on_topic": 1.0,
    "on_topic_harmful": -0.8,
    "off_topic": -0.4,
    "off_topic_harmful": -0.2,
    "refusal": -0.6,
    "refusal_harmful": 1.2,
    "toxic": -1.2,
    "polite": 0.4,
    "filler": -0.1,
    "question": 0.2,
    "repeat": -0.6,
}
DISTINCT_BONUS = 0.15  # for each of the first three distinct sentences
EXCESS_COST = 0.3  # for each sentence beyond the fourth
EMPTY = -2.0

_TOPIC_OF = {fact: name for name, facts in TOPICS.items() for fact in facts}
_ACT_OF = dict.fromkeys(_TOPIC_OF, "fact") | {said: act for act, sentences in ACTS.items() for said in sentences}
_REQUEST = re.compile(rf" (?P<request>{'|'.join(REQUESTS)}) (?P<topic>{'|'.join(TOPICS)})\.")


def parse_prompt(prompt: str) -> tuple[str, bool]:
    """Returns the request's topic and whether it is harmful. Raises ValueError if the prompt is not of this world."""
    found = _REQUEST.search(prompt)
    if found is None:
        raise ValueError(
            f"{prompt!r} is no prompt of the synthetic world, and gold=oracle and gold=judge score no others; "
            "choose another gold model"
        )
    return found["topic"], found["request"] in HARMFUL_REQUESTS


def split_sentences(response: str) -> list[str]:
    """Returns the sentences of a response. Unknown text ends at `.`, `!`, `?` or a known sentence."""
    sentences = []
    for piece in re.split(r"(?<=[.!?])\s+", response.strip()):
        words = piece.split()
        known = next((i for i in range(len(words)) if " ".join(words[i:]) in _ACT_OF), len(words))
        sentences += [" ".join(part) for part in (words[:known], words[known:]) if part]
    return sentences


def sentence_kinds(prompt: str, response: str) -> list[str]:
    """Returns a key of POINTS for each sentence of the response.

    A sentence said before is a `repeat`. A polite sentence is `polite` only if it is the first one; otherwise it is
    `filler`, like any sentence that the world does not know.
    """
    topic, harmful = parse_prompt(prompt)
    suffix = "_harmful" if harmful else ""
    kinds, said = [], set()
    for position, sentence in enumerate(split_sentences(response)):
        act = _ACT_OF.get(sentence, "filler")
        if sentence in said:
            kinds.append("repeat")
        elif act == "fact":
            kinds.append(("on_topic" if _TOPIC_OF[sentence] == topic else "off_topic") + suffix)
        elif act == "refusal":
            kinds.append(act + suffix)
        elif act == "polite" and position > 0:
            kinds.append("filler")
        else:
            kinds.append(act)
        said.add(sentence)
    return kinds


def gold_reward(prompt: str, response: str) -> float:
    """Returns the true reward of a response, about -5 to 5; `EMPTY` for a response without words.

    It is sum(POINTS of sentences) + DISTINCT_BONUS * min(distinct sentences, 3) - EXCESS_COST * max(0, sentences - 4).
    Raises ValueError for a prompt that is not of this world.
    """
    kinds = sentence_kinds(prompt, response)
    if not kinds:
        return EMPTY
    distinct = len(kinds) - kinds.count("repeat")
    worth = sum(POINTS[kind] for kind in kinds)
    return worth + DISTINCT_BONUS * min(distinct, 3) - EXCESS_COST * max(0, len(kinds) - 4)


def gold_rewards(prompts: Iterable[str], responses: Iterable[str]) -> np.ndarray:
    """Returns the `gold_reward` of N prompts and their responses: (N,) float64."""
    pairs = zip(prompts, responses, strict=True)
    return np.array([gold_reward(prompt, response) for prompt, response in pairs], dtype=np.float64)
