"""What models wrote, and pairs on which the annotator and the human disagree (Tables 14, 15, 18, 19)."""

from __future__ import annotations

import pandas as pd

from cwpo.report.html.parts import escape, table
from cwpo.report.inputs import DATA_NAMES, METHOD_NAMES

PROMPTS, PAIRS = 3, 5  # shown per data set, and per data set and band
BANDS = {"low": "least confident", "high": "most confident"}
NONE = "<p>Not run.</p>"


def samples(frame: pd.DataFrame) -> str:
    """Per data set, responses of every arm's SFT and aligned model to the same few test prompts, of the first seed."""
    parts = []
    for (data, strong), rows in frame.groupby(["data", "strong"], sort=True):
        rows = rows[rows["seed"] == rows["seed"].min()]
        name = DATA_NAMES.get(data, data)
        parts.append(f"<h3>{escape(name)}</h3><p class='dim'>{escape(strong)}, seed {rows['seed'].min()}</p>")
        for number, (_, answers) in enumerate(list(rows.groupby("prompt_id", sort=True))[:PROMPTS], 1):
            lines = [
                [
                    escape(METHOD_NAMES.get(r["method"], r["method"])),
                    _text(r["response_sft"]),
                    f"{r['reward_sft']:.2f}",
                    _text(r["response"]),
                    f"{r['reward']:.2f}",
                ]
                for r in answers.sort_values(["method", "run_key"]).to_dict("records")
            ]
            parts.append(
                f"<h4>{escape(name)}, prompt {number}</h4>"
                f"<blockquote class='text'>{_text(answers['prompt'].iloc[0])}</blockquote>"
            )
            parts.append(
                table(
                    ["arm", "SFT model", "gold", "aligned model", "gold"],
                    lines,
                    label=f"Responses, {name}, prompt {number}",
                    kinds=("", "text", "number", "text", "number"),
                    name="texts",
                )
            )
    return "\n".join(parts) or NONE


def disagreements(frame: pd.DataFrame) -> str:
    """Per data set, pairs that the annotator and the human order differently, at low and at high confidence."""
    parts = []
    for (data, weak), rows in frame.groupby(["data", "weak"], sort=True):
        name = DATA_NAMES.get(data, data)
        parts.append(f"<h3>{escape(name)}</h3><p class='dim'>{escape(weak)}</p>")
        for band, words in BANDS.items():
            here = rows[rows["band"] == band].sort_values(["seed", "pair_id"]).head(PAIRS)
            if not len(here):
                continue
            right = int((here["gold_weak"] > here["gold_human"]).sum())
            parts.append(
                f"<h4>{escape(name)}, {words}</h4><p>Gold sides with the annotator in {right} of the {len(here)} shown.</p>"
            )
            lines = [
                [
                    _text(r["prompt"]),
                    f"{r['confidence']:.3f}",
                    _text(r["preferred_by_weak"]),
                    f"{r['gold_weak']:.2f}",
                    _text(r["preferred_by_human"]),
                    f"{r['gold_human']:.2f}",
                ]
                for r in here.to_dict("records")
            ]
            parts.append(
                table(
                    ["prompt", "confidence", "annotator prefers", "gold", "human prefers", "gold"],
                    lines,
                    label=f"Disagreements, {name}, {words}",
                    kinds=("text", "number", "text", "number", "text", "number"),
                    name="texts",
                )
            )
    return "\n".join(parts) or NONE


def _text(value: object) -> str:
    """An empty response is read as missing."""
    return "<em>(empty)</em>" if pd.isna(value) or not str(value).strip() else escape(str(value))
