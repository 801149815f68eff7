"""Reads real pairs to measure annotators. Each pair has a group; no group may be in both training and test."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.batching import encode_prompts
from cwpo.data.files import records
from cwpo.data.labels import vote_share
from cwpo.data.own import convert
from cwpo.models.policy import context_length, load_tokenizer

LONGEST_RESPONSE = 256  # tokens of a response that an annotator reads
LONGEST_PROMPT = 128
POSITION = "Give a convincing argument for this position: "


@dataclass(frozen=True)
class Source:
    """A `file` in the data folder. `votes`: its column with lists of votes, if any. `debates`: whether the first line
    of a prompt names the debate that the pair is from."""

    file: str
    votes: str | None = None
    debates: bool = False


SOURCES = {
    "ukp": Source("ukpconvarg1_dev.jsonl.gz", votes="annotator_labels", debates=True),
    "harmless": Source("hh-rlhf/harmless-base/test.jsonl.gz"),
    "helpful": Source("hh-rlhf/helpful-base/test.jsonl.gz"),
    "pandalm": Source("pandalm_testset.jsonl.gz", votes="annotator_labels"),
}


def load_source(name: str, folder: str | Path) -> pd.DataFrame:
    """Returns a source's pairs: pair_id, prompt, response_a, response_b, gold, share, n_votes, votes (list), group.

    gold is the published label (1: response `a` is better, 0: `b`, 0.5: tie); share is the share of votes for `a`.
    group is the debate in UKP and the prompt in other data sets; training and test must not share a group.
    """
    source = SOURCES[name]
    path = str(Path(folder).expanduser() / source.file)
    with tempfile.TemporaryDirectory() as scratch:
        convert(path, Path(scratch) / "pairs.parquet", ties="soft")
        pairs = pd.read_parquet(Path(scratch) / "pairs.parquet")
    pairs = pairs.rename(columns={"target": "gold"}).drop(columns="domain")
    if source.votes is not None:
        raw = {row: list(record[source.votes]) for row, record in records(path)}
        pairs["votes"] = pairs["row"].map(raw)
        voted = [vote_share(None, votes) for votes in pairs["votes"]]
        pairs["share"], pairs["n_votes"] = [v[0] for v in voted], [v[1] for v in voted]
    else:
        pairs["votes"] = [["a" if a_wins else "b"] for a_wins in pairs["gold"] > 0.5]
    pairs["group"] = pairs["prompt"]
    if source.debates:
        pairs["group"] = pairs["prompt"].str.partition("\n")[0]
        pairs["prompt"] = pairs["group"] + "\nPosition: " + pairs["prompt"].str.rpartition(POSITION)[2]
    return pairs


def one_vote(pairs: pd.DataFrame, seed: int) -> np.ndarray:
    """Draws one of each pair's votes at random; returns (N,): 1 for response `a`, 0 for `b`, 0.5 for a tie."""
    rng = np.random.default_rng([seed, 11])
    return np.array([vote_share(votes[rng.integers(len(votes))])[0] for votes in pairs["votes"]])


def cut(pairs: pd.DataFrame, model: str, longest: int = LONGEST_RESPONSE) -> pd.DataFrame:
    """Cuts prompts to the last LONGEST_PROMPT tokens and responses to the first `longest`.

    Both limits are lower if `model` has a short context.
    """
    tokenizer, context = load_tokenizer(model), context_length(model) or 10**9
    response = min(longest, context // 2 - 2)
    prompt = min(LONGEST_PROMPT, context - response - 4)

    def shown(texts: Sequence[str], part: slice) -> list[str]:
        ids = encode_prompts(tokenizer, list(texts))
        plain = [[i for i in row if i not in tokenizer.all_special_ids] for row in ids]
        limit = part.stop or -(part.start or 0)
        return [
            text if len(row) <= limit else tokenizer.decode(row[part]) for text, row in zip(texts, plain, strict=True)
        ]

    columns: dict[str, Any] = {"prompt": shown(pairs["prompt"], slice(-prompt, None))}
    columns |= {name: shown(pairs[name], slice(response)) for name in ("response_a", "response_b")}
    return pairs.assign(**columns)


def check_sources(folder: str | Path, names: Sequence[str]) -> list[str]:
    """Returns a message for each data set in `names` whose file is not in the data folder."""
    files = [Path(folder).expanduser() / SOURCES[name].file for name in names]
    return [f"data={folder} lacks {file}" for file in files if not file.is_file()]
