"""How each family is computed, as a Markdown table. `python tests/differential/table.py` writes it into cwpo/README.md."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from architectures import ARCHITECTURES, architecture
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from cwpo.errors import InputError
from cwpo.models.generation import samples_alone
from cwpo.models.lengths import mixes_lengths
from cwpo.models.packed import exact_layout
from cwpo.models.policy import add_lora

README = Path(__file__).resolve().parents[2] / "cwpo" / "README.md"
BEGIN, END = "<!-- table of families -->\n", "<!-- end of the table -->\n"
HEADER = ("Family", "Special about it", "Short pairs", "Long pairs", "Samples", "Annotator", "Adapters")
SHORT, LONG = 12, 60  # tokens of the longest sequence: within and beyond each window and original context


def written() -> dict[str, list[str]]:
    """The rows of the table in cwpo/README.md, by family."""
    table = README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row for row in cells}


def computed(family: str) -> list[str]:
    """The family's row of the table."""
    kind, special, _ = ARCHITECTURES[family]
    model = architecture(family)
    samples = "one prompt at a time" if samples_alone(model, LONG) else "in batches"
    annotator = "one length at a time" if mixes_lengths(model.config, LONG) else "in batches"
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        annotator = "refused"
    layouts = [layout_of(model, longest) for longest in (SHORT, LONG)]
    return [family, special, *layouts, samples, annotator, adapters(model)]


def layout_of(model: torch.nn.Module, longest: int) -> str:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in (longest // 2, longest):
        prompt, *sides = torch.randint(4, 300, (3, length // 2), generator=generator).tolist()
        ids = {"chosen_ids": prompt + sides[0], "rejected_ids": prompt + sides[1][: length // 3]}
        rows.append(ids | {"chosen_start": len(prompt), "rejected_start": len(prompt)})
    layout = exact_layout(model, rows, pad_id=0)
    return "packed" if layout.packed else "one length at a time" if layout.by_length else "plain"


def adapters(model: torch.nn.Module) -> str:
    try:
        add_lora(model, r=2, alpha=4, dropout=0.0)
    except InputError:
        return "refused"
    return "yes"


def markdown() -> str:
    rows = [HEADER, ["---"] * len(HEADER), *map(computed, ARCHITECTURES)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    README.write_text(before + BEGIN + markdown() + END + rest.partition(END)[2], encoding="utf-8")
