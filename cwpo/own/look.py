"""Prints a first look at own pairs: columns, their meaning, labels, and some pairs as a model will read them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from cwpo.data.own import convert
from cwpo.own.preferences import has_messages
from cwpo.own.reading import chat_decided, reader
from cwpo.plain import visible

LONGEST = 800  # characters of a text that are shown


def first_look(cfg: Any, say: Callable[[str], None]) -> None:
    """Prints how scripts/annotate.py reads cfg.data, and the first cfg.show pairs. Loads no weights, writes nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pairs.parquet"
        how = {name: cfg[name] for name in ("ties", "split", "positive")}
        read = convert(cfg.data, file, cfg.columns, **how)
        messages = has_messages(file)
        with pq.ParquetFile(file) as table:
            pairs = next(table.iter_batches(cfg.show)).to_pandas()
    say(f"{cfg.data}: {read.read:,} rows with the columns {', '.join(read.columns)}")
    say(f"  read as: {read.meaning}")
    if read.unused:
        say(f"  not used: {', '.join(read.unused)}")
    say(f"  labels: {', '.join(f'{name} {count:,}' for name, count in read.labels.most_common())}")
    say(f"  {read.kept:,} usable pairs, {read.labeled:,} with a label; left out: {read.drops()}")
    for pair, texts in zip(pairs.itertuples(), zip(*_as_read(cfg, pairs, messages, say)), strict=True):
        say(f"row {pair.row}: {_label(pair.share, pair.n_votes)}")
        names = ("response_a", "response_b") if len(texts) == 2 else ("both responses",)
        for name, text in zip(names, texts, strict=True):
            say(f"  {name}, after the prompt:")
            cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
            say(textwrap.indent(visible(cut), "  | ", lambda line: True))


def _label(share: float, votes: int) -> str:
    if votes > 1:
        return f"{share:.0%} of {votes} votes for response_a"
    return "no label" if not votes else "label tie" if share == 0.5 else f"label {'a' if share > 0.5 else 'b'}"


def _as_read(cfg: Any, pairs: pd.DataFrame, messages: bool, say: Callable[[str], None]) -> list[list[str]]:
    """Returns two lists of texts, prompt + response `a` and prompt + response `b` of every pair, as a model reads them.

    The texts are decoded tokens, special tokens included; if the settings name no model, they are those of the table.
    For PairRM there is only one list, with both responses in each text.
    """
    if cfg.model is None and cfg.annotator.path is None:
        return [(pairs["prompt"] + pairs[side]).tolist() for side in ("response_a", "response_b")]
    tokenizer, sequences = reader(chat_decided(cfg, messages, lambda line: say(f"  {line}")))
    return [[tokenizer.decode(ids) for ids in rows] for rows in sequences(pairs)]
