"""The model card of an aligned model: data, arm, metrics, commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwpo.store.store import git_commit

REWARDS = ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


def write_card(folder: Path, base: str | None, facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """README.md in the folder of a model. `base` is what it was trained from; a hub id is linked for the hub."""
    hub = base is not None and not Path(base).expanduser().exists() and not base.startswith("world/")
    lines = [
        "---",
        "library_name: transformers",
        *([f"base_model: {base}"] if hub else []),
        "tags: [preference-optimization, cw-po]",
        "---",
        "# Aligned model",
        "",
        "Preference optimisation with a weight for every pair, mean(w l), as in CW-PO (arXiv:2603.04968).",
        "",
        "| | |",
        "|---|---|",
        *[f"| {name} | {_cell(value)} |" for name, value in ({"trained from": base} | dict(facts)).items()],
        f"| commit of the code | {git_commit() or 'none: outside a repository'} |",
        "",
        "| measured | |",
        "|---|---|",
        *[f"| {name} | {_cell(value)} |" for name, value in metrics.items()],
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def training_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """The last logged REWARDS of a trainer's history."""
    last: dict[str, Any] = next((row for row in reversed(history) if "rewards/accuracies" in row), {})
    return {f"{name}, last training steps": round(float(last[name]), 4) for name in REWARDS if name in last}


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
