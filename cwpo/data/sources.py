"""Preference pairs from where they are, as one table: the synthetic world, JSON lines, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.lines import json_lines
from cwpo.data.splits import assign_splits
from cwpo.errors import InputError

TURN = "\n\nAssistant:"
COLUMNS = ["pair_id", "prompt", "response_a", "response_b", "human_label", "split", "domain", "n_tokens"]
FORMS = (
    ("prompt", "chosen", "rejected"),
    ("prompt", "response_a", "response_b", "label"),
    ("chosen", "rejected"),
)


def load_pairs(cfg: Any) -> pd.DataFrame:
    """The pairs of a run as the table `pairs.parquet` holds, COLUMNS in order.

    cfg needs data, seed, human_fraction, unlabeled_fraction, holdout and `tokenizers` (objects that count tokens, see `token_counts`)
    with `max_tokens`, the limit they imply. `attrs["drops"]` counts dropped rows by reason; `attrs["held_out"]` holds
    the pairs set aside for a trained gold model. Raises InputError for unusable input.
    """
    raw, drops = read_pairs(cfg.data, cfg.seed)
    raw, more = drop_unusable(raw)
    drops.update(more)
    raw["n_tokens"], unfit = token_counts(raw, cfg.tokenizers, cfg.max_tokens)
    for reason, mask in unfit.items():
        drops[reason] = int(mask.sum())
    kept = raw[~np.logical_or.reduce(list(unfit.values()))].reset_index(drop=True)
    if len(raw) and not len(kept):
        raise InputError(
            f"none of the {len(raw)} pairs fits into {cfg.max_tokens} tokens ({drops['prompt_too_long']} prompts alone are "
            "longer); raise data.max_tokens, or use models with a longer context"
        )
    pairs, held_out = assign_splits(
        kept,
        cfg.data,
        seed=cfg.seed,
        human_fraction=cfg.human_fraction,
        unlabeled_fraction=getattr(cfg, "unlabeled_fraction", None),
        holdout=cfg.holdout,
        drops=drops,
    )
    drops["beyond_data_pairs"] = len(kept) - len(pairs) - len(held_out)
    pairs = pairs[COLUMNS].reset_index(drop=True)
    pairs.attrs["drops"], pairs.attrs["held_out"] = drops, held_out[COLUMNS].reset_index(drop=True)
    return pairs


def read_pairs(data: Any, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """(prompt, response_a, response_b, human_label, domain) of every readable pair, and drops by reason.

    Where the source says chosen and rejected, the side of the chosen one is random, following `seed`.
    """
    if data.source == "world":
        from cwpo.data.toy import sample_pairs

        frame = sample_pairs(
            data.world, data.pairs + data.test_pairs, seed=seed, flip=getattr(data, "label_flip", None)
        )
        frame["test"] = np.arange(len(frame)) >= data.pairs
        return frame, {"read": len(frame)}
    rows: list[dict[str, str]] = []
    drops = {"read": 0, "prompts_differ": 0, "ties": 0}
    for where, domain, record in _records(data):
        drops["read"] += 1
        row, reason = _as_pair(_renamed(record, data.columns, where), where)
        if row is None:
            drops[reason] += 1
        else:
            rows.append({**row, "domain": domain})
    if not drops["read"]:
        raise InputError(f"data.path={data.path} holds no pairs: it is empty")
    frame = pd.DataFrame(rows, columns=["prompt", "first", "second", "human_label", "domain"])
    swap = np.random.default_rng([seed, 1]).random(len(frame)) < 0.5
    # chosen/rejected sources put the chosen one first; labelled sources keep the sides they came with.
    swap &= (frame["human_label"] == "chosen").to_numpy()
    frame["response_a"] = frame["first"].where(~swap, frame["second"])
    frame["response_b"] = frame["second"].where(~swap, frame["first"])
    frame["human_label"] = frame["human_label"].mask(
        frame["human_label"] == "chosen", np.where(swap, "b", "a")
    )
    return frame.drop(columns=["first", "second"]), drops


def drop_unusable(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Without empty or identical responses and without repeats, with `pair_id`; and the drops by reason."""
    drops: dict[str, int] = {}
    empty = (frame["response_a"].str.strip() == "") | (frame["response_b"].str.strip() == "")
    identical = ~empty & (frame["response_a"] == frame["response_b"])
    drops["empty_response"], drops["identical_responses"] = int(empty.sum()), int(identical.sum())
    frame = frame[~(empty | identical)].copy()
    frame["pair_id"] = [
        pair_id(p, a, b)
        for p, a, b in zip(frame["prompt"], frame["response_a"], frame["response_b"], strict=True)
    ]
    repeated = frame["pair_id"].duplicated()
    drops["repeated"] = int(repeated.sum())
    return frame[~repeated].reset_index(drop=True), drops


def pair_id(prompt: str, response_a: str, response_b: str) -> str:
    """16 hex digits that depend on the content only, not on which side a response is."""
    content = json.dumps([prompt, *sorted([response_a, response_b])], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def token_counts(
    frame: pd.DataFrame, tokenizers: Iterable[Any], limit: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Tokens of each pair's longer sequence under the last tokenizer, and masks of the pairs unfit under any.

    A prompt without a single token (empty, and a tokenizer without BOS) leaves nothing to predict the response's first
    token from.
    """
    from cwpo.data.batching import encode, encode_prompts

    no_prompt = np.zeros(len(frame), dtype=bool)
    prompt_long = np.zeros(len(frame), dtype=bool)
    pair_long = np.zeros(len(frame), dtype=bool)
    longest = np.zeros(len(frame), dtype=np.int64)
    if not len(frame):
        return longest, {"empty_prompt": no_prompt, "prompt_too_long": prompt_long, "too_long": pair_long}
    for tokenizer in tokenizers:
        prompts = frame["prompt"].tolist()
        prompt_lengths = np.array([len(ids) for ids in encode_prompts(tokenizer, prompts)])
        no_prompt |= prompt_lengths == 0
        prompt_long |= prompt_lengths >= limit
        longest = np.maximum.reduce(
            [
                [len(ids) for ids, _ in encode(tokenizer, prompts, frame[side].tolist())]
                for side in ("response_a", "response_b")
            ]
        )
        pair_long |= longest > limit
    pair_long &= ~(prompt_long | no_prompt)
    return longest, {"empty_prompt": no_prompt, "prompt_too_long": prompt_long, "too_long": pair_long}


def _records(data: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(where, domain, record) of every row: local JSON lines, or a data set of the hub."""
    paths = [data.path] if isinstance(data.path, str) else list(data.path)
    for path in paths:
        file = Path(path).expanduser()
        if file.is_file():
            for number, record in json_lines(file):
                yield f"{file}:{number}", data.name if len(paths) == 1 else _domain(file), record
        else:
            yield from _hub_records(path, data)


def _domain(file: Path) -> str:
    """A short name for a file of several: its folder's name where the file is just train or test."""
    stem = file.name.split(".")[0]
    return file.parent.name if stem in ("train", "test", "data") and file.parent.name else stem


def _hub_records(path: str, data: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    import datasets

    for folder in data.folders or [None]:
        try:
            table = datasets.load_dataset(path, data_dir=folder, revision=data.revision, split="train+test")
        except Exception as error:  # the hub client raises many kinds; each means the data set cannot be had
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"data.path={path} is neither a file here nor a data set that the hub or its cache can give: {reason}"
            ) from error
        for number, record in enumerate(table):
            yield f"{path}/{folder or ''}#{number}", folder or data.name, record


def _renamed(record: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Mapping[str, Any]:
    absent = [f"{theirs} (data.columns.{ours})" for ours, theirs in columns.items() if theirs not in record]
    if absent:
        raise InputError(
            f"{where} lacks a column: it has {', '.join(record) or 'none'}, but not {', '.join(absent)}"
        )
    return {**record, **{ours: record[theirs] for ours, theirs in columns.items()}}


def _as_pair(record: Mapping[str, Any], where: str) -> tuple[dict[str, str] | None, str]:
    """One record of any of FORMS as prompt, first, second, human_label (`chosen`: the first is), or a drop reason."""
    form = next((form for form in FORMS if all(name in record for name in form)), None)
    if form is None:
        wanted = "; or ".join(", ".join(form) for form in FORMS)
        raise InputError(f"{where} lacks a column: it has {', '.join(record) or 'none'}, but needs {wanted}")
    for name in form:
        if not isinstance(record[name], str):
            raise InputError(f"{where}: {name} is {type(record[name]).__name__}, not text")
        if not _is_unicode(record[name]):
            raise InputError(
                f"{where}: {name} has half a surrogate pair (\\ud800 to \\udfff), which no text can hold"
            )
    if "label" in form:
        label = record["label"].strip().lower()
        if label == "tie":
            return None, "ties"
        if label not in ("a", "b"):
            raise InputError(
                f'{where}: unknown label {record["label"]!r}; use "a", "b" or "tie" (ties are dropped)'
            )
        return dict(
            prompt=record["prompt"],
            first=record["response_a"],
            second=record["response_b"],
            human_label=label,
        ), ""
    if "prompt" in form:
        return dict(
            prompt=record["prompt"], first=record["chosen"], second=record["rejected"], human_label="chosen"
        ), ""
    prompts, responses = zip(*(_split_dialogue(record[name], where) for name in form), strict=True)
    if prompts[0] != prompts[1]:
        return None, "prompts_differ"
    return dict(prompt=prompts[0], first=responses[0], second=responses[1], human_label="chosen"), ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_dialogue(dialogue: str, where: str) -> tuple[str, str]:
    """The dialogue up to and with its last assistant turn's name, and that turn's text (HH-RLHF's layout)."""
    head, turn, response = dialogue.rpartition(TURN)
    if not turn:
        raise InputError(
            f"{where}: no prompt column, and the text is no dialogue: it has no {TURN.strip()!r} turn"
        )
    return head + turn, response
