"""Loads preference pairs as one table: from the synthetic world, local files, or the Hugging Face hub."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cwpo.data.dialogues import cut_to_first_turn
from cwpo.data.files import records
from cwpo.data.hub import LAYOUTS, Published, Table, published
from cwpo.data.lengths import check_words, token_counts
from cwpo.data.own_texts import pair_texts, parsed
from cwpo.data.rows import PairReader, Texts
from cwpo.data.splits import assign_splits, unseen_prompts
from cwpo.errors import InputError

ONE_SIDED = ("empty_response", "identical_responses")
COLUMNS = ["pair_id", "prompt", "response_a", "response_b", "human_label", "split", "domain", "n_tokens"]


def load_pairs(cfg: Any) -> pd.DataFrame:
    """Returns the pairs of a run as the table that `pairs.parquet` holds, with COLUMNS in order.

    cfg needs data, seed, human_fraction, unlabeled_fraction, holdout and, to count tokens, tokenizers, max_tokens and
    context (the most tokens that the models read at once; not needed for the default data.length_rule).
    The table's `attrs` have these keys. drops: {"read": number of rows read, reason: number of rows dropped for it}.
    held_out: a table of the pairs set aside for a trained gold model. kept, for published data sets only: {"train":
    number of usable pairs, "test": the same}. Raises InputError for unusable input.
    """
    raw, drops = read_pairs(cfg.data, cfg.seed)
    raw, more = drop_unusable(raw)
    drops.update({reason: drops.get(reason, 0) + count for reason, count in more.items()})
    for tokenizer in cfg.tokenizers:
        check_words(tokenizer, raw["response_a"].tolist(), getattr(tokenizer, "name_or_path", "a model"))
    raw["n_tokens"], unfit = token_counts(
        raw,
        cfg.tokenizers,
        cfg.max_tokens,
        rule=getattr(cfg.data, "length_rule", "longer_pair"),
        context=getattr(cfg, "context", None),
    )
    drops |= {reason: int(mask.sum()) for reason, mask in unfit.items()}
    kept = raw[~np.logical_or.reduce(list(unfit.values()))].reset_index(drop=True)
    if len(raw) and not len(kept):
        raise InputError(
            f"data.max_tokens={cfg.max_tokens} fits none of the {len(raw)} pairs ({drops['prompt_too_long']} prompts alone are "
            "longer); raise it, or use models with a longer context"
        )
    kept, more = unseen_prompts(kept, getattr(cfg.data, "test_prompts", "any"))
    drops |= more
    pairs, held_out = assign_splits(kept, cfg, drops)
    drops["beyond_data_pairs"] = len(kept) - len(pairs) - len(held_out)
    pairs = pairs[COLUMNS].reset_index(drop=True)
    pairs.attrs["drops"], pairs.attrs["held_out"] = drops, held_out[COLUMNS].reset_index(drop=True)
    if cfg.data.source == "hub":
        test = int(kept["test"].sum())
        pairs.attrs["kept"] = {"train": len(kept) - test, "test": test}
    return pairs


def read_pairs(data: Any, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns a table of the usable pairs, and the number of rows `read` and of dropped rows by reason.

    Its columns are prompt, response_a, response_b, human_label, domain and, for a source with its own test pairs (the
    world, a published data set), test. If the source calls responses chosen and rejected, `seed` draws which of them
    becomes response `a`. Raises InputError if there are no rows.
    """
    if data.source == "world":
        from cwpo.data.toy import sample_pairs

        count, flip = data.pairs + data.test_pairs, getattr(data, "label_flip", None)
        frame = sample_pairs(data.world, count, seed=seed, flip=flip)
        frame["test"] = np.arange(len(frame)) >= data.pairs
        return frame, {"read": len(frame)}
    known = LAYOUTS[data.layout] if data.source == "hub" else None
    drops = dict.fromkeys(("read", "prompts_differ", "ties", *ONE_SIDED), 0)
    sides = np.random.default_rng([seed, 1])
    tables = published(data) if known else _own(data)
    read: Callable[..., Texts] = known.texts if known else pair_texts

    def first_turns(prompt: Any, first: Any, second: Any, sides: Sequence[str]) -> Texts:
        return read(*(cut_to_first_turn(parsed(cell) or cell) for cell in (prompt, first, second)), sides)

    texts = first_turns if getattr(data, "turns", "all") == "first" else read
    rows = [row for table in tables for row in _rows(table, data, known, texts, sides, drops)]
    if not drops["read"]:
        raise InputError(f"data.path={data.path} holds no pairs: it is empty; name a file or data set with pairs")
    frame = pd.DataFrame(rows, columns=["prompt", "response_a", "response_b", "human_label", "domain", "test"])
    return frame if known else frame.drop(columns="test"), drops


def _rows(
    table: Table,
    data: Any,
    known: Published | None,
    texts: Callable[..., Texts],
    sides: np.random.Generator,
    drops: dict[str, int],
) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Yields (prompt, response_a, response_b, human_label, domain, test) of each usable pair.

    Counts all rows, and the unusable ones by reason, in `drops`. sides: draws which response becomes response `a`.
    """
    layout, positive = known.layout if known else None, getattr(data, "positive", None)
    reader = PairReader(table.path, data.columns, positive, at="data.", layout=layout, texts=texts)
    rows = records(table.path, table.split, folder=table.folder, revision=data.revision if table.split else None)
    for number, pair, reason, _ in reader.read(rows):
        if pair is None or pair.share == 0.5:
            reason = reason or "ties"
            drops[reason] = drops.get(reason, 0) + 1
            # A side is drawn for these pairs too, so that the sides of other pairs do not depend on them.
            if reason in ONE_SIDED:
                sides.random()
            continue
        swap = bool(sides.random() < 0.5) and pair.ordered  # labelled pairs keep the sides they came with
        if not pair.n_votes:
            reader.done.refuse('have no label; a run needs one for every pair: "a", "b" or "tie"', number)
            continue
        domain = pair.domain if "domain" in data.columns else table.domain
        if swap:
            pair = pair.turned()
        yield *pair.texts[:3], "a" if pair.share > 0.5 else "b", domain, table.test
    drops["read"] += reader.done.read


def drop_unusable(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns each pair of two different, non-empty responses once, with its pair_id, and {reason: number of drops}."""
    a, b = frame["response_a"], frame["response_b"]
    empty = (a.str.strip() == "") | (b.str.strip() == "")
    identical = ~empty & (a == b)
    frame = frame[~(empty | identical)]
    texts = zip(frame["prompt"], frame["response_a"], frame["response_b"], strict=True)
    frame = frame.assign(pair_id=[pair_id(*each) for each in texts])
    repeated = frame["pair_id"].duplicated()
    drops = {"empty_response": empty, "identical_responses": identical, "repeated": repeated}
    return frame[~repeated].reset_index(drop=True), {name: int(mask.sum()) for name, mask in drops.items()}


def pair_id(prompt: str, response_a: str, response_b: str) -> str:
    """Returns 16 hex digits, a hash of the texts; exchanging the responses does not change it."""
    content = json.dumps([prompt, *sorted([response_a, response_b])], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _own(data: Any) -> Iterator[Table]:
    """Yields a Table for each local file in data.path, and for each folder (data.folders) of each data set in it."""
    paths = [data.path] if isinstance(data.path, str) else list(data.path)
    for path in paths:
        if Path(path).expanduser().is_file():
            yield Table(path, data.name)
        else:
            for folder in data.folders or [None]:
                yield Table(path, folder or data.name, split="train+test", folder=folder)
