"""Writes the model card of an aligned model: data, arm, metrics, commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwpo.models.adapters import base_of, is_adapters
from cwpo.pages import markdown_table
from cwpo.store.store import git_commit

REWARDS = ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


def write_card(folder: Path, base: str | None, facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Writes the card README.md to `folder`: facts, metrics, and `base`, id or path of the model before training."""
    hub = base is not None and not Path(base).expanduser().exists() and not base.startswith("world/")
    commit = git_commit() or "none: outside a repository"
    known = {"trained from": base, **facts, "commit of the code": commit}
    adapters = is_adapters(folder)
    if adapters:
        under = base_of(folder)
        read = f"the model under them is {under.path}, read in {under.dtype}"
        known["weights"] = f"LoRA adapters in float32; {read}"
    library = f"library_name: {'peft' if adapters else 'transformers'}"
    head = [library, *([f"base_model: {base}"] if hub else [])]
    parts = [
        "\n".join(["---", *head, "tags: [preference-optimization, cw-po]", "---", "# Aligned model"]),
        "Preference optimisation with a weight for every pair, mean(w l), as in CW-PO (arXiv:2603.04968).",
        markdown_table(["", ""], _rows(known), left=2),
        markdown_table(["measured", ""], _rows(metrics), left=2),
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[name, " ".join(str(value).split())] for name, value in values.items()]


def training_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the last loss, reward accuracy, margin and rewards in a trainer's history, rounded; {} if it has none."""
    last: dict[str, Any] = next((row for row in reversed(history) if "rewards/accuracies" in row), {})
    return {f"{name}, last training steps": round(float(last[name]), 4) for name in REWARDS if name in last}
