"""The recipes of CONTRIBUTING.md, followed in a copy of the project: each thing that they add takes part in one run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPO, SMOKE

RECIPES = re.split(r"^## ", (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:6]
ADDITION = re.compile(r"In `(cwpo/[\w/]+\.py)`[^`]*?(?:`\w+`[^`]*)*`([A-Z_]+)`:\n\n\s*```python\n(.*?)```", re.DOTALL)
FILE = re.compile(r"`(conf/\w+/\w+\.yaml)`[^\n]*:\n\n\s*```yaml\n(.*?)```", re.DOTALL)


def follow(recipe: str, root: Path) -> list[str]:
    """Make the changes of a recipe under `root` and return the source files that it touches."""
    touched = []
    for file, registry, lines in ADDITION.findall(recipe):
        source = (root / file).read_text(encoding="utf-8")
        opening = re.search(rf"^{registry}\b.*?= [({{]\n?", source, re.MULTILINE)
        assert opening, f"{file} has no registry {registry}"
        at = opening.end()
        (root / file).write_text(source[:at] + lines + source[at:], encoding="utf-8")
        touched.append(file)
    ((file, text),) = FILE.findall(recipe)
    (root / file).write_text(re.sub("^   ", "", text, flags=re.MULTILINE), encoding="utf-8")
    return touched


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    root = tmp_path_factory.mktemp("project")
    for folder in ("cwpo", "conf", "scripts"):
        shutil.copytree(REPO / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root, {recipe.split("\n", 1)[0]: follow(recipe, root) for recipe in RECIPES}


def test_each_addition_touches_at_most_two_source_files(project):
    touched = project[1]
    assert list(touched) == ["A weighting", "An objective", "An annotator", "A data set", "A gold model"]
    assert all(1 <= len(files) <= 2 for files in touched.values())


def referee(base: Path, folder: Path) -> None:
    """A random model with one score."""
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    LlamaForSequenceClassification.from_pretrained(base, num_labels=1, pad_token_id=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


@pytest.mark.soak
def test_the_additions_work_together(project, tmp_path, tiny_checkpoint):
    root = project[0]
    referee(tiny_checkpoint, tmp_path / "referee")
    rows = [{"prompt": f"Ask {i}?", "chosen": f" yes {i}", "rejected": f" no, not {i}"} for i in range(70)]
    (tmp_path / "forum").mkdir()
    for split, part in (("train", rows[:50]), ("test", rows[50:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / "forum" / f"{split}.jsonl").write_text(text)
    words = [
        *("weighting=root", "objective=hinge", "annotator=bt_again", "data=forum", "gold=referee"),
        *(f"data.path={tmp_path}/forum", f"gold.path={tmp_path}/referee", "generation.max_new_tokens=6"),
        *(f"pair.weak={tiny_checkpoint}", f"pair.strong={tiny_checkpoint}"),
        *(word for word in SMOKE if not word.startswith("data.")),
        *(f"store={tmp_path}/store", f"results={tmp_path}/results", "evaluation.prompts=10"),
    ]
    command = [sys.executable, str(root / "scripts" / "run.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    row = pd.read_csv(tmp_path / "results" / "toy" / "runs.csv").iloc[0]
    assert (row["weighting"], row["objective"], row["annotator"], row["data"]) == ("root", "hinge", "bt_again", "forum")
    weighted = pd.concat(map(pd.read_parquet, (tmp_path / "store" / "weight").glob("*/preferences.parquet")))
    assert weighted["weight"].to_numpy() == pytest.approx(weighted["confidence"].to_numpy() ** 0.5)
