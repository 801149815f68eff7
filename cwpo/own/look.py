"""A first look at own pairs before anything starts: columns, their meaning, labels, and pairs as a model will read them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cwpo.data.batching import encode
from cwpo.data.own import convert
from cwpo.models.policy import load_tokenizer
from cwpo.plain import visible

LONGEST = 800  # characters of a text


def first_look(cfg: Any, say: Callable[[str], None] = print) -> None:
    """Say how scripts/annotate.py reads its data, and show the first cfg.show pairs. Loads no weights and writes no result."""
    columns = {str(ours): str(theirs) for ours, theirs in cfg.columns.items()}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pairs.parquet"
        read = convert(cfg.data, file, columns, ties=cfg.ties, split=cfg.split, positive=cfg.positive)
        with pq.ParquetFile(file) as table:
            pairs = next(table.iter_batches(cfg.show)).to_pylist()
    say(f"{cfg.data}: {read.read:,} rows with the columns {', '.join(read.columns)}")
    say(f"  read as: {read.meaning}")
    say(f"  labels: {', '.join(f'{name} {count:,}' for name, count in read.labels.most_common())}")
    say(f"  {read.kept:,} usable pairs, {read.labeled:,} with a label; left out: {read.drops()}")
    seen = _as_read(cfg)
    for pair in pairs:
        share = (
            f"{pair['share']:.0%} of {pair['n_votes']} votes for response_a"
            if pair["n_votes"]
            else "no label"
        )
        say(f"row {pair['row']}: {share}")
        for side in ("response_a", "response_b"):
            say(f"  {side}, after its prompt:")
            say(textwrap.indent(_short(seen(pair["prompt"], pair[side])), "  | ", lambda line: True))


def _as_read(cfg: Any) -> Callable[[str, str], str]:
    """Prompt and response as one text: what the tokens of cfg.model spell, special tokens included, or else the plain texts."""
    if cfg.model is None:
        return lambda prompt, response: prompt + response
    tokenizer = load_tokenizer(cfg.model, cfg.revision)
    return lambda prompt, response: tokenizer.decode(encode(tokenizer, [prompt], [response])[0][0])


def _short(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    return visible(cut)
