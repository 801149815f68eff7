"""The synthetic world: what is asked, what is answered, and which answer noisy annotators prefer.

Frozen at WORLD_VERSION: any change to texts, parameters or the order of random draws must raise it.

Its parameters are calibrated on facts about annotators alone, never on the outcome of an alignment. The rates of
agreement below are means over three seeds and the data sets harmless, helpful and hh_rlhf, each with 4,000 pairs and
4,000 test pairs. The annotator is Bradley-Terry on opt-32x1 (OPT, hidden size 32, 1 layer) unless another is named.
Published values are in brackets.

    labels against gold                                  .742   [.63 to .77]
    annotator against human labels, 30 % labelled        .644   [.638 to .691]
    the same at 10, 20, 30, 50 %        .634 .645 .644 .654     [.604 .631 .648 .649]
    the same with opt-64x2, 30 %                         .650   [slightly better]
    annotator against gold: all, surest 30 %, least sure 30 %    .751  .901  .598

In a prototype, SPECIFIC_REACTION and quality_spread were .8. Now SPECIFIC_REACTION is .6, so that an annotator still
gains from more labels and parameters, and quality_spread is 1, which brings accuracy back up. Readers now also react to
a repeated sentence and to straying from a harmful request. A polite sentence that is not first now counts as filler.
"""

import math
import random
from dataclasses import dataclass

import pandas as pd

from cwpo.data.toy.gold import POINTS, gold_reward, sentence_kinds
from cwpo.data.toy.sentences import ACTS, HARMFUL_REQUESTS, HARMLESS_REQUESTS, REACTIONS, STYLES, SUMMARY_REQUESTS
from cwpo.data.toy.topics import DOMAINS, TOPICS

WORLD_VERSION = 2
EOS = "</s>"
SPECIFIC_REACTION = 0.6  # share of readers who react to one sentence; the others say something generic


@dataclass(frozen=True)
class WorldDataset:
    """The parameters of one data set. If it has `parts`, it is an even mixture of these data sets.

    An annotator prefers response `a` with probability sigmoid((gold reward of a - that of b) / temperature).
    """

    harmful_share: float = 0.0  # share of harmful requests, in [0, 1]
    requests: tuple[str, ...] = HARMLESS_REQUESTS  # the harmless requests
    topics: tuple[str, ...] = tuple(TOPICS)
    sentences: tuple[int, int] = (1, 5)  # fewest and most sentences per response, drawn uniformly
    on_topic: float = 1.2  # weight, among those in _draw_response, of sentences that help with a harmless request
    quality_spread: float = 1.0  # how much responses differ in quality: the sd of log e in _draw_response
    temperature: float = 0.8  # of human labels
    flip: float = 0.15  # share of labels that are reversed after this choice
    parts: tuple[str, ...] = ()


DATASETS: dict[str, WorldDataset] = {
    "harmless": WorldDataset(harmful_share=0.8),
    "helpful": WorldDataset(),
    "hh_rlhf": WorldDataset(parts=("harmless", "helpful")),
    "tldr": WorldDataset(requests=SUMMARY_REQUESTS, sentences=(1, 3), on_topic=1.8),
    "ufb": WorldDataset(harmful_share=0.1, quality_spread=1.3, temperature=0.6, flip=0.1),
} | {
    f"shp_{domain}": WorldDataset(topics=tuple(DOMAINS[domain]), temperature=1.0, flip=0.2)
    for domain in sorted(DOMAINS)
}
_PRETRAINING = WorldDataset(harmful_share=0.4, requests=HARMLESS_REQUESTS + SUMMARY_REQUESTS)


def sample_pairs(dataset: str, count: int, seed: int, flip: float | None = None) -> pd.DataFrame:
    """Draws `count` independent pairs: prompt, response_a, response_b, human_label ("a" or "b"), domain.

    The two responses are exchangeable and never identical. Texts depend on `dataset`, `seed` and the row number alone,
    so a smaller `count` gives the first rows of a larger one. `flip`, in [0, 1], replaces the data set's own share of
    reversed labels and changes only the labels. `domain` is `dataset` or, if that is a mixture, the part that the pair
    is from. Raises ValueError for an unknown data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r} of the synthetic world; it has {', '.join(DATASETS)}")
    texts = random.Random(f"{dataset}/texts/{seed}")
    labels = random.Random(f"{dataset}/labels/{seed}")
    for _ in range(40 * len(POINTS)):  # draws that an earlier version used; without them all labels would change
        labels.gauss(0, 1)
    rows = []
    for _ in range(count):
        domain = texts.choice(DATASETS[dataset].parts or (dataset,))
        parameters = DATASETS[domain]
        prompt, topic, harmful = _draw_prompt(parameters, texts)
        a = b = ""
        while a == b:
            a, b = (_draw_response(parameters, topic, harmful, texts) for _ in "ab")
        labels.randrange(40)  # as above
        gap = gold_reward(prompt, a) - gold_reward(prompt, b)
        says_a = labels.random() < 1 / (1 + math.exp(-gap / parameters.temperature))
        reversed_by_mistake = labels.random() < (parameters.flip if flip is None else flip)
        label = "a" if says_a != reversed_by_mistake else "b"
        rows.append((prompt, a, b, label, domain))
    return pd.DataFrame(rows, columns=["prompt", "response_a", "response_b", "human_label", "domain"])


def pretraining_texts(count: int, seed: int) -> list[str]:
    """Draws `count` texts "prompt response</s> reaction", with all topics and requests; 40 % of prompts are harmful."""
    rng = random.Random(f"pretraining/{seed}")
    texts = []
    for _ in range(count):
        prompt, topic, harmful = _draw_prompt(_PRETRAINING, rng)
        response = _draw_response(_PRETRAINING, topic, harmful, rng)
        texts.append(f"{prompt} {response}{EOS} {_draw_reaction(prompt, response, rng)}")
    return texts


def _draw_prompt(parameters: WorldDataset, rng: random.Random) -> tuple[str, str, bool]:
    """Draws a prompt. Returns it, its topic, and whether it is harmful."""
    harmful = rng.random() < parameters.harmful_share
    request = rng.choice(HARMFUL_REQUESTS if harmful else parameters.requests)
    topic = rng.choice(parameters.topics)
    return f"Human: {rng.choice(STYLES)} {request} {topic}. Assistant:", topic, harmful


def _draw_response(parameters: WorldDataset, topic: str, harmful: bool, rng: random.Random) -> str:
    """Draws a quality e and a response: at high e it mostly helps, or refuses harm; at low e it strays or insults."""
    e = math.exp(parameters.quality_spread * rng.gauss(0, 1))
    weights = {
        "on_topic": 0.4 / e if harmful else parameters.on_topic * e,
        "off_topic": 0.5 / e,
        "polite": 0.6,
        "toxic": 0.3 / e,
        "refusal": 1.0 * e if harmful else 0.3 / e,
        "filler": 0.5,
        "question": 0.3,
    }
    acts = list(weights)
    first = rng.choices(acts, list(weights.values()))
    weights["polite"] = 0.1
    rest = rng.choices(acts, list(weights.values()), k=rng.randint(*parameters.sentences) - 1)
    return " ".join(_draw_sentence(act, topic, rng) for act in first + rest)


def _draw_sentence(act: str, topic: str, rng: random.Random) -> str:
    if act == "on_topic":
        return rng.choice(TOPICS[topic])
    if act == "off_topic":
        return rng.choice(TOPICS[rng.choice([name for name in TOPICS if name != topic])])
    return rng.choice(ACTS[act])


def _draw_reaction(prompt: str, response: str, rng: random.Random) -> str:
    """Draws a reader's reaction to one sentence of the response, picked at random, or a generic reaction."""
    if rng.random() >= SPECIFIC_REACTION:
        return rng.choice(REACTIONS["generic"])
    return rng.choice(REACTIONS[rng.choice(sentence_kinds(prompt, response))])
